//! Text to steps.

mod cursor;
mod device;
mod expect;
mod parts;
mod steps;

use super::ast::{CacheWords, Expr, Line, MachineWords, Name, Script, Series, Step, ThreadWords};
use super::lex;
use super::manual;
use super::names::{Kind, Names};
use super::text::{Invalid, Span, without_mark};
use super::words::{Asics, Choice, HostPages, Posted, RangeEndWord, Reuse, Setting, Views};
use cursor::Cursor;
pub(super) use expect::{CLEAR, event_word};

impl core::str::FromStr for Script {
    type Err = Invalid;

    /// Reads a scenario file.
    ///
    /// # Errors
    ///
    /// [`Invalid`]: the first place that is not as it should be.
    fn from_str(source: &str) -> Result<Self, Invalid> {
        let mut lines = Vec::new();
        for (number, text) in (1..).zip(without_mark(source).lines()) {
            let tokens = lex::line(number, text)?;
            if !tokens.is_empty() {
                lines.push(tokens);
            }
        }
        let mut parser = Parser {
            lines: lines.into_iter(),
            names: Names::default(),
            depth: 0,
        };
        let mut script = Self::default();
        script.machine.span = START;
        parser.header(&mut script)?;
        let end = parser.body(None, &mut script.steps)?;
        debug_assert!(end.is_none(), "only a block is ended");
        if script.steps.is_empty() {
            // It would pass, whatever it was to show.
            return Err(Invalid::new(START, "there is no step in this scenario"));
        }
        Ok(script)
    }
}

/// Where a file begins.
const START: Span = Span {
    line: 1,
    column: 1,
    len: 1,
};

/// The deepest that blocks may lie in each other.
const MAX_DEPTH: u32 = 32;

/// What has been read, and what is left.
struct Parser {
    lines: std::vec::IntoIter<Vec<lex::Token>>,
    names: Names,
    depth: u32,
}

impl Parser {
    fn header(&mut self, script: &mut Script) -> Result<(), Invalid> {
        while let Some(tokens) = self.lines.as_slice().first() {
            let mut line = Cursor::new(tokens.clone());
            let (word, _) = line.word("a step")?;
            match word.as_str() {
                "asics" if script.asics.is_empty() && script.machine == MachineWords::default() => {
                    script.asics = asics(&mut line)?;
                }
                "machine" if script.machine == MachineWords::default() => {
                    script.machine =
                        machine(&mut line).map_err(|invalid| with_syntax(invalid, "machine"))?;
                }
                _ => return Ok(()),
            }
            line.end()?;
            let _ = self.lines.next();
        }
        Ok(())
    }

    /// Reads steps up to `end` into `steps`. `block` is what the end is the end of; without it,
    /// steps go on up to the end of the file.
    fn body(
        &mut self,
        block: Option<(&str, Span)>,
        steps: &mut Vec<Line>,
    ) -> Result<Option<Span>, Invalid> {
        while let Some(tokens) = self.lines.next() {
            let mut line = Cursor::new(tokens);
            let span = line.whole();
            let (word, at) = line.word("a step")?;
            if word == "end" {
                line.end()?;
                return match block {
                    Some(_) => Ok(Some(span)),
                    None => Err(Invalid::new(at, "there is nothing here to be ended")),
                };
            }
            let step = self
                .step(&word, at, &mut line)
                .map_err(|invalid| with_syntax(invalid, &word))?;
            steps.push(Line { span, step });
        }
        match block {
            Some((word, at)) => Err(Invalid::new(at, format_args!("this `{word}` has no `end`"))),
            None => Ok(None),
        }
    }

    /// The steps of a block whose heading has been read.
    fn block(&mut self, word: &str, at: Span) -> Result<Vec<Line>, Invalid> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Invalid::new(
                at,
                format_args!("blocks lie in each other at most {MAX_DEPTH} deep"),
            ));
        }
        let mut steps = Vec::new();
        self.body(Some((word, at)), &mut steps)?;
        self.depth -= 1;
        Ok(steps)
    }

    /// A step whose first word has been read.
    fn step(&mut self, word: &str, at: Span, line: &mut Cursor) -> Result<Step, Invalid> {
        match word {
            "repeat" => {
                let times = line.expr(&self.names)?;
                line.end()?;
                let body = self.block(word, at)?;
                Ok(Step::Repeat { times, body })
            }
            "for" => {
                let name = line.name()?;
                line.keyword("in")?;
                let series = series(line, &self.names)?;
                line.end()?;
                self.names.define(&name, Kind::Variable)?;
                let body = self.block(word, at)?;
                Ok(Step::For { name, series, body })
            }
            "on" => {
                let asics = asics(line)?;
                let body = self.block(word, at)?;
                Ok(Step::On { asics, body })
            }
            "if" => {
                let one = line.expr(&self.names)?;
                let comparison = line.comparison()?;
                let other = line.expr(&self.names)?;
                line.end()?;
                let body = self.block(word, at)?;
                Ok(Step::If {
                    one,
                    comparison,
                    other,
                    body,
                })
            }
            "parallel" => {
                line.end()?;
                Ok(Step::Parallel {
                    threads: self.threads(word, at)?,
                })
            }
            "interleave" => {
                let seed = line.option("seed", &self.names)?;
                line.end()?;
                let threads = self.threads(word, at)?;
                Ok(Step::Interleave { seed, threads })
            }
            "thread" => {
                let message = "`thread` stands in a `parallel` or an `interleave` block only";
                Err(with_syntax(Invalid::new(at, message), "parallel"))
            }
            "asics" | "machine" => Err(Invalid::new(
                at,
                format_args!(
                    "`{word}` stands once, before the first step, `asics` before `machine`"
                ),
            )),
            _ => {
                let step = line.step(word, at, &mut self.names)?;
                line.end()?;
                Ok(step)
            }
        }
    }

    /// The threads of a block that begins with `block` at `start`, up to its end.
    fn threads(&mut self, block: &str, start: Span) -> Result<Vec<ThreadWords>, Invalid> {
        let mut threads = Vec::new();
        while let Some(tokens) = self.lines.next() {
            let mut line = Cursor::new(tokens);
            let (word, at) = line.word("`thread`")?;
            match word.as_str() {
                "end" => {
                    line.end()?;
                    return Ok(threads);
                }
                "thread" => {
                    let heading = thread(&mut line, &self.names);
                    let (count, number) = heading.map_err(|invalid| with_syntax(invalid, block))?;
                    // What a thread names is its own.
                    let outside = self.names.clone();
                    if let Some(number) = &number {
                        self.names.define(number, Kind::Variable)?;
                    }
                    let body = self.block("thread", at)?;
                    self.names = outside;
                    alone(&body)?;
                    threads.push(ThreadWords {
                        count,
                        number,
                        body,
                        span: at,
                    });
                }
                _ => {
                    let message = format_args!("`{word}` stands in no thread");
                    let has = format_args!("`{block}` has `thread N ... end` and nothing else");
                    return Err(Invalid::new(at, message).help(has));
                }
            }
        }
        Err(Invalid::new(
            start,
            format_args!("this `{block}` has no `end`"),
        ))
    }
}

/// How many threads do the steps that follow, and what tells them apart.
fn thread(line: &mut Cursor, names: &Names) -> Result<(Expr, Option<Name>), Invalid> {
    if line.is_at_end() {
        return Err(line.expected("how many threads do this"));
    }
    let count = line.expr(names)?;
    let number = match line.take("as") {
        true => Some(line.name()?),
        false => None,
    };
    line.end()?;
    Ok((count, number))
}

/// Refuses what a thread may not do: what concerns all of them.
fn alone(body: &[Line]) -> Result<(), Invalid> {
    for line in body {
        let refused = matches!(
            line.step,
            Step::Open { .. }
                | Step::Close { .. }
                | Step::Exit { .. }
                | Step::Fork { .. }
                | Step::Parallel { .. }
                | Step::Interleave { .. }
                | Step::Snapshot { .. }
                | Step::ExpectSame { .. }
                | Step::Mark { .. }
                | Step::Window { .. }
                | Step::Unwindow { .. }
                | Step::ExpectFault { .. }
                | Step::ExpectEvent { .. }
                | Step::ForgetFaults
                | Step::Bar { .. }
        );
        if refused {
            let message = "this concerns all threads, so that no single one does it";
            return Err(Invalid::new(line.span, message));
        }
        match &line.step {
            Step::Repeat { body, .. }
            | Step::For { body, .. }
            | Step::On { body, .. }
            | Step::If { body, .. } => alone(body)?,
            _ => {}
        }
    }
    Ok(())
}

/// Adds how the step is written, where nothing better is said.
fn with_syntax(invalid: Invalid, word: &str) -> Invalid {
    match (&invalid.help, manual::page(word)) {
        (None, Some(page)) => invalid.help(format_args!("{}", page.syntax)),
        _ => invalid,
    }
}

fn asics(line: &mut Cursor) -> Result<Vec<Asics>, Invalid> {
    let mut asics = vec![line.choice::<Asics>("an ASIC")?];
    while !line.is_at_end() {
        asics.push(line.choice("an ASIC")?);
    }
    Ok(asics)
}

fn machine(line: &mut Cursor) -> Result<MachineWords, Invalid> {
    let mut words = MachineWords {
        span: line.whole(),
        ..MachineWords::default()
    };
    loop {
        if line.take("cache") {
            words.caches = [Some(cache(line)?); 2];
        } else if line.take("leaf-cache") {
            words.caches[0] = Some(cache(line)?);
        } else if line.take("line-cache") {
            words.caches[1] = Some(cache(line)?);
        } else if line.take("default-page") {
            words.default_page = true;
        } else if line.take("views") {
            words.views = Some(line.choice::<Views>("`single` or `counted`")?);
        } else if line.take("reuse") {
            words.reuse = Some(line.choice::<Reuse>("an order")?);
        } else if line.take("host") {
            words.host = Some(line.choice::<HostPages>("where the host's pages are")?);
        } else if line.take("range-end") {
            words.range_end = Some(line.choice::<RangeEndWord>("what the end of a range means")?);
        } else if line.take("posted-writes") {
            words.posted = Some(line.choice::<Posted>("when the device sees them")?);
        } else if line.take("hmmus") {
            words.hmmus = Some(line.number()?);
        } else {
            let others = ["cache", "leaf-cache", "line-cache", "default-page"];
            let more = [
                "views",
                "reuse",
                "host",
                "range-end",
                "posted-writes",
                "hmmus",
            ];
            let known = Setting::words().chain(others).chain(more);
            let setting = line.choice_of::<Setting>("a size of the machine", known)?;
            let value = line.number()?;
            words.settings.push((setting, value));
        }
        if line.is_at_end() {
            return Ok(words);
        }
    }
}

fn cache(line: &mut Cursor) -> Result<CacheWords, Invalid> {
    if line.peek_word().is_some() {
        return line.choice("a kind of cache").map(CacheWords::Known);
    }
    let sets = line.number()?;
    line.keyword("sets")?;
    let ways = line.number()?;
    line.keyword("ways")?;
    Ok(CacheWords::Sets(sets, ways))
}

fn series(line: &mut Cursor, names: &Names) -> Result<Series, Invalid> {
    let first = line.expr(names)?;
    if line.take_sign("..") {
        let end = line.expr(names)?;
        let step = line.option("step", names)?;
        return Ok(Series::Range(first, end, step));
    }
    let mut values = vec![first];
    while line.take_sign(",") {
        values.push(line.expr(names)?);
    }
    Ok(Series::List(values))
}
