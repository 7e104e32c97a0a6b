//! Tests on the host.

use crate::ci::Report;
use crate::command::Invocation;
use crate::workspace::Session;

pub(super) fn tests(session: &Session, report: &mut Report) {
    // Not --all-targets: that would run the benchmarks as well.
    let targets = ["--locked", "--workspace", "--tests", "--examples"];
    let settings = &session.config.ci.tests;
    let at_length = |tests: Invocation, option: &str| {
        if !session.long {
            return tests;
        }
        tests
            .lasting(settings.long())
            .variable("HL_LONG_TESTS", "1")
            .argument(format!("{option}={}", settings.long_profile))
    };
    for set in &settings.feature_sets {
        let flags = set.arguments().iter().copied();
        if session.nextest {
            let nextest = session.cargo("nextest").argument("run");
            let nextest = nextest.arguments(targets).arguments(flags);
            report.run(&at_length(nextest, "--cargo-profile"));
            continue;
        }
        let tests = session.cargo("test").arguments(targets).arguments(flags);
        // Every failing test program is to be seen, not only the first.
        let tests = at_length(tests, "--profile").argument("--no-fail-fast");
        let output = report.take(tests.run_and_read());
        if output.is_some_and(|output| passed(&output) == 0) {
            report.fail("no test ran");
        }
    }
}

pub(super) fn doc_tests(session: &Session, report: &mut Report) {
    let tests = session.cargo("test").arguments(["--locked", "--workspace"]);
    report.run(&tests.arguments(["--doc", "--all-features", "--no-fail-fast"]));
}

/// Counts the tests that passed, from the closing lines of all test programs in `output`.
pub(super) fn passed(output: &str) -> u64 {
    output
        .lines()
        .filter_map(|line| line.strip_prefix("test result: "))
        .filter_map(|line| {
            let (before, _) = line.split_once(" passed;")?;
            before.rsplit(' ').next()?.parse::<u64>().ok()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_of_all_programs_are_added_up() {
        let output = "running 3 tests\n...\n\
            test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            \nrunning 13 tests\n\
            test result: FAILED. 12 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s\n";
        assert_eq!(passed(output), 15);
    }

    #[test]
    fn ignored_and_filtered_tests_are_not_counted() {
        let output = "test result: ok. 0 passed; 0 failed; 4 ignored; 0 measured; 7 filtered out; finished in 0.00s\n";
        assert_eq!(passed(output), 0);
    }

    #[test]
    fn a_line_that_a_test_prints_in_passing_is_not_a_closing_line() {
        assert_eq!(passed("the test result: ok. 9 passed; said the log\n"), 0);
    }
}
