//! The firmware port: booted, not only compiled.

use crate::ci::Report;
use crate::firmware;
use crate::workspace::Session;

pub(super) fn boot(session: &Session, report: &mut Report) {
    let manifest = &session.config.firmware.manifest;
    // The images are a workspace of their own, which the other stages do not see.
    let format = session.cargo("fmt").argument("--manifest-path");
    report.run(&format.argument(manifest).arguments(["--all", "--check"]));
    report.take(firmware::boot_all(session));
    report.take(firmware::link_all(session));
    report.take(firmware::find_planted_fault(session));
}
