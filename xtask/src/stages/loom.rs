//! The loom models.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::host_tests::passed;
use crate::Result;
use crate::ci::Report;
use crate::workspace::Session;

pub(super) fn models(session: &Session, report: &mut Report) {
    let settings = &session.config.ci.loom;
    let preemptions = if session.long {
        settings.long_max_preemptions
    } else {
        settings.max_preemptions
    };
    report.take(run_models(session, preemptions, &[]));
}

/// Runs the models, with `arguments` for the test program.
///
/// # Errors
/// A model failed, or none ran: the test is missing, is empty without `--cfg loom`'s code, or
/// nothing fits the filter.
pub(crate) fn run_models(session: &Session, preemptions: u32, arguments: &[String]) -> Result<()> {
    let settings = &session.config.ci.loom;
    let (package, test) = (&settings.package, &settings.test);
    if !session.member(package)?.has_test(test) {
        return Err(format!(
            "{package} has no test called `{test}` ({package}/tests/{test}.rs): there are no models"
        ));
    }
    let separator = (!arguments.is_empty()).then_some("--");
    let output = session
        .cargo("test")
        .lasting(settings.lasting(preemptions))
        .variable("RUSTFLAGS", "--cfg loom")
        .variable("LOOM_MAX_PREEMPTIONS", preemptions.to_string())
        .arguments(["--locked", "--no-fail-fast"])
        .argument(target_directory(session))
        .argument(format!("--profile={}", settings.profile))
        .argument(format!("--package={package}"))
        .argument(format!("--test={test}"))
        .arguments(separator)
        .arguments(arguments)
        // They are in the table below.
        .run_and_read_but(|line| Model::parse(line).is_some())?;
    let models: Vec<Model> = output.lines().filter_map(Model::parse).collect();
    print!("{}", table(&models, preemptions));
    if passed(&output) == 0 {
        return Err(format!(
            "no model ran: {package}/tests/{test}.rs has none, or none that fits the filter"
        ));
    }
    Ok(())
}

/// Returns cargo's argument for the models' own directory: their flags would otherwise throw away
/// every ordinary build.
pub(super) fn target_directory(session: &Session) -> String {
    format!("--target-dir={}", session.build_directory("loom").display())
}

/// What the test program says of one model that has run.
#[derive(Debug, PartialEq)]
struct Model<'a> {
    module: &'a str,
    name: &'a str,
    /// Whether it looks for a planted bug, which it found.
    planted: bool,
    executions: u64,
    seconds: f64,
    /// What it proves, or which bug it found.
    what: &'a str,
}

impl<'a> Model<'a> {
    /// Reads a line of `hl-harness/tests/loom/main.rs`. The test runner may have begun the line.
    fn parse(line: &'a str) -> Option<Self> {
        let (_, line) = line.split_once("loom\t")?;
        let mut fields = line.split('\t');
        let (module, name) = fields.next()?.rsplit_once("::")?;
        let planted = match fields.next()? {
            "proved" => false,
            "found" => true,
            _ => return None,
        };
        Some(Self {
            module,
            name,
            planted,
            executions: fields.next()?.parse().ok()?,
            seconds: fields.next()?.parse().ok()?,
            what: fields.next()?,
        })
    }
}

/// Returns the models by module, each with what it proves or the planted bug that it found.
fn table(models: &[Model<'_>], preemptions: u32) -> String {
    let mut modules: BTreeMap<&str, Vec<&Model<'_>>> = BTreeMap::new();
    for model in models {
        modules.entry(model.module).or_default().push(model);
    }
    let mut text = String::new();
    for (module, mut models) in modules {
        models.sort_by_key(|model| (model.planted, model.name));
        let _ = writeln!(text, "\n{module}");
        for model in models {
            let what = if model.planted {
                "finds the planted bug"
            } else {
                "proves"
            };
            let _ = writeln!(
                text,
                "  {:<80}{:>7} executions{:>7.2} s\n      {what}: {}",
                model.name, model.executions, model.seconds, model.what
            );
        }
    }
    let found = models.iter().filter(|model| model.planted).count();
    let executions: u64 = models.iter().map(|model| model.executions).sum();
    let _ = writeln!(
        text,
        "\n{} properties proved, {found} planted bugs found; {executions} executions, each with at \
         most {preemptions} preemptions",
        models.len() - found
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "running 3 tests\n\
        loom\tunmap::a_bug_is_found\tfound\t7\t0.01\tthe page goes first\n\
        test unmap::it_holds ... loom\tunmap::it_holds\tproved\t505\t1.25\tnothing is reached\n\
        loom\tring::order\tproved\t31\t0.50\tin order\n\
        test result: ok. 3 passed; 0 failed\n";

    #[test]
    fn a_model_is_read_from_its_line_and_nothing_else_is_one() {
        let models: Vec<Model<'_>> = LINES.lines().filter_map(Model::parse).collect();
        assert_eq!(models.len(), 3);
        assert_eq!(
            models.get(1),
            Some(&Model {
                module: "unmap",
                name: "it_holds",
                planted: false,
                executions: 505,
                seconds: 1.25,
                what: "nothing is reached",
            })
        );
    }

    #[test]
    fn the_table_has_proofs_before_bugs_and_counts_both() {
        let models: Vec<Model<'_>> = LINES.lines().filter_map(Model::parse).collect();
        let text = table(&models, 3);
        let order = [
            "ring",
            "in order",
            "unmap",
            "nothing is reached",
            "the page goes first",
        ];
        let places: Vec<_> = order.iter().map(|part| text.find(part)).collect();
        assert!(
            places.is_sorted() && places.iter().all(Option::is_some),
            "{text}"
        );
        assert!(text.ends_with(
            "2 properties proved, 1 planted bugs found; 543 executions, each with at most 3 \
             preemptions\n"
        ));
    }
}
