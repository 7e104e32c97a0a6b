//! `cargo xtask firmware`: the images of `ports/firmware`, built, booted, judged and measured.
//!
//! They are a workspace of their own, so that what they depend on is not built where nobody asks
//! for it. An image is judged twice: by its exit status, and by the last message of its log, which
//! only the whole of it reaches.

use std::path::Path;

use clap::Args;

use crate::Result;
use crate::bare::{self, Found};
use crate::config::Image;
use crate::stages::needs_of;
use crate::workspace::Session;

/// Arguments of `cargo xtask firmware`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Damages a page-table entry, and demands that the image notices
    #[arg(long)]
    planted_fault: bool,
}

/// Boots the images.
///
/// # Errors
/// Something needed is missing, an image does not build, hangs, fails or is too large; with a
/// planted fault, an image does not notice it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let session = Session::open(false, false)?;
    for need in needs_of("firmware") {
        if let Some(missing) = need.missing(&session)? {
            return Err(missing);
        }
    }
    if options.planted_fault {
        find_planted_fault(&session)
    } else {
        boot_all(&session)?;
        link_all(&session)
    }
}

/// Boots every image and measures it.
///
/// # Errors
/// As for [`run`].
pub(crate) fn boot_all(session: &Session) -> Result<()> {
    let settings = &session.config.firmware;
    for image in &settings.images {
        let elf = Build::of(session, image).run(session, None)?;
        boot(session, image, &elf, &settings.pass)?;
        report(session, &["sizes", &elf])?;
    }
    Ok(())
}

/// Links the images that show that code cannot panic, and measures them.
///
/// # Errors
/// As for [`run`].
pub(crate) fn link_all(session: &Session) -> Result<()> {
    let settings = &session.config.firmware;
    let images = settings.linked.iter();
    for image in images.filter(|image| session.long || !image.long_only) {
        let build = Build {
            package: &settings.linked_package,
            name: &image.name,
            target: &image.target,
            profile: "release",
        };
        let elf = build.run(session, None)?;
        let limits = image.limits.iter().map(String::as_str);
        let arguments: Vec<_> = ["sizes", elf.as_str()].into_iter().chain(limits).collect();
        report(session, &arguments)?;
    }
    Ok(())
}

/// Boots every image with the fault planted, and demands that it is found for what it is.
///
/// # Errors
/// As for [`run`].
pub(crate) fn find_planted_fault(session: &Session) -> Result<()> {
    for image in &session.config.firmware.images {
        let elf = Build::of(session, image).run(session, Some("--features=planted-fault"))?;
        boot(session, image, &elf, &image.planted_fault)?;
        println!("{}: the planted fault was found", image.name);
    }
    Ok(())
}

/// What to build of an image.
#[derive(Debug)]
struct Build<'a> {
    package: &'a str,
    name: &'a str,
    target: &'a str,
    profile: &'a str,
}

impl<'a> Build<'a> {
    fn of(session: &'a Session, image: &'a Image) -> Self {
        Self {
            package: &session.config.firmware.images_package,
            name: &image.name,
            target: &image.target,
            profile: &image.profile,
        }
    }

    /// Builds the image and returns where it is.
    fn run(&self, session: &Session, features: Option<&str>) -> Result<String> {
        let settings = &session.config.firmware;
        let found = Found::look(session)?;
        let toolchain = found.choose(self.target).ok_or_else(|| {
            found.complaint(&[self.target], &session.config.targets.debian.packages)
        })?;
        bare::build_image(session, toolchain, self.target)
            .variable("DEFMT_LOG", "info")
            .arguments(["--config", &settings.cargo_config])
            .arguments(["--manifest-path", &settings.manifest])
            .argument(target_directory(session))
            .argument(format!("--profile={}", self.profile))
            // One package at a time: together they would share features.
            .argument(format!("--package={}", self.package))
            .argument(format!("--bin={}", self.name))
            .arguments(features)
            .run()?;
        let directory = session.build_directory("firmware").join(self.target);
        let image = directory.join(self.profile).join(self.name);
        Ok(image.display().to_string())
    }
}

/// Boots an image and demands that its log ends with `verdict`, and that its exit status says the
/// same.
fn boot(session: &Session, image: &Image, elf: &str, verdict: &str) -> Result<()> {
    let settings = &session.config.firmware;
    let log = format!("{elf}.log");
    let ended = session
        .command(&image.emulator)
        .arguments(image.arguments(elf))
        .limit(settings.boot_limit())
        .run_into(Path::new(&log));
    // The log first: it tells why the status is what it is.
    let logged = report(session, &["log", elf, &log, verdict]);
    match (ended, verdict == settings.pass) {
        (Err(error), true) => Err(error),
        (Ok(()), false) => Err(format!("{} ended with status 0 all the same", image.name)),
        (Ok(()), true) | (Err(_), false) => logged,
    }
}

fn report(session: &Session, arguments: &[&str]) -> Result<()> {
    let settings = &session.config.firmware;
    session
        .cargo("run")
        .arguments(["--quiet", "--locked", "--manifest-path", &settings.manifest])
        .argument(target_directory(session))
        .argument(format!("--package={}", settings.report))
        .argument("--")
        .arguments(arguments.iter().copied())
        .run()
}

fn target_directory(session: &Session) -> String {
    format!(
        "--target-dir={}",
        session.build_directory("firmware").display()
    )
}
