//! From a disagreement to a scenario file that shows it.

use std::panic;

use super::disagreement::Disagreement;
use super::operations::Step;
use super::run::run;
use super::scribe::as_scenario;
use super::shrink::shrink;
use crate::machine::Model;
use crate::scenario::ast::Step as ScenarioStep;
use crate::scenario::words::AsicWord;
use crate::scenario::{self, Options, Script, Stop};

/// Attempts to leave steps out of a list that ends in a disagreement.
const ATTEMPTS: usize = 2000;

/// The text of a scenario that shows the disagreement that `steps` end in, with what was said of it as
/// comments: of the fewest steps that lead to the same one. Where the scenario alone does not show it, it
/// says so.
///
/// What is expected in the text is what the model said of all that is done in it. So of the text itself
/// only such lines are left out as are nothing to the driver: with a request less the expectations are
/// those of another run, and would fail for want of it.
#[must_use]
pub fn reproducer<A: Model>(steps: &[Step], disagreement: Disagreement) -> String {
    let disagrees = |fewer: &[Step]| run::<A>(fewer, &|_| {}).err();
    let (steps, _) = shrink(steps, disagreement, ATTEMPTS, disagrees);
    let text = as_scenario::<A>(&steps);
    let asic = AsicWord::of_model::<A>();
    let options = Options {
        seed: 1,
        events: false,
    };
    let script: Script = match text.parse() {
        Ok(script) => script,
        Err(invalid) => return format!("# Not a scenario: {invalid}\n{text}"),
    };
    let comments = text.lines().take_while(|line| line.starts_with('#'));
    let mut said: String = comments.map(|line| format!("{line}\n")).collect();
    // A driver that panics does so here as well, and the whole text is what there is to say.
    let outcome = panic::catch_unwind(|| scenario::run(&script, asic, options, &mut ()));
    match outcome {
        Ok(Err(Stop::Failed(_))) => {
            let quiet = |step: &ScenarioStep| !step.is_work();
            said + &scenario::shrink_by(&script, asic, options, quiet).to_string()
        }
        Err(_) => text,
        Ok(Ok(_) | Err(Stop::Invalid(_))) => {
            said += "# This text alone does not show it. The steps of the stress test:\n";
            let steps = steps.iter().map(|step| format!("# {step:?}\n"));
            said.extend(steps);
            said + &text
        }
    }
}
