//! One line, token by token.

use super::super::ast::{Count, Expr, ExprKind, Name};
use super::super::lex::{Kind as TokenKind, Token};
use super::super::names::{Kind, Names};
use super::super::text::{Invalid, Span};
use super::super::words::{Choice, Comparison, Constant, Operator, Unit};

/// Words that mean something wherever they stand, so that nothing else has them as a name.
const RESERVED: &[&str] = &[
    "after",
    "args",
    "as",
    "asid",
    "at",
    "because",
    "byte",
    "bypass",
    "bytes",
    "contiguous",
    "device",
    "dram",
    "end",
    "except",
    "expect",
    "fails",
    "faults",
    "flags",
    "force",
    "from",
    "hint",
    "hmmu",
    "hop",
    "in",
    "left",
    "lost",
    "of",
    "ok",
    "op",
    "or",
    "page",
    "pattern",
    "privileged",
    "process",
    "random",
    "read",
    "same",
    "shared",
    "since",
    "size",
    "step",
    "thread",
    "times",
    "word",
    "write",
];

/// Words that ask the machine for a number, so that no variable has them as a name.
const QUANTITIES: &[&str] = &[
    "pins",
    "dirty",
    "charged",
    "mappings",
    "quarantined",
    "handles",
    "used",
    "free",
    "extents",
    "leaf",
    "leaves",
    "entry",
    "bus",
    "counter",
    "events",
    "register",
    "pending",
    "bar",
];

/// A line, and how far it has been read.
pub(super) struct Cursor {
    tokens: Vec<Token>,
    next: usize,
    /// How many brackets are open.
    nested: u32,
}

/// How deep brackets may lie in each other.
const MAX_NESTED: u32 = 64;

impl Cursor {
    /// A line that has a token at least.
    pub(super) fn new(tokens: Vec<Token>) -> Self {
        Self {
            tokens,
            next: 0,
            nested: 0,
        }
    }

    /// The whole line.
    pub(super) fn whole(&self) -> Span {
        match (self.tokens.first(), self.tokens.last()) {
            (Some(first), Some(last)) => first.span.to(last.span),
            _ => Span::default(),
        }
    }

    /// Where the next token is, or the line ends.
    pub(super) fn place(&self) -> Span {
        match (self.tokens.get(self.next), self.tokens.last()) {
            (Some(token), _) => token.span,
            (None, Some(last)) => Span {
                column: last.span.column + last.span.len,
                len: 1,
                ..last.span
            },
            (None, None) => Span::default(),
        }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.next == self.tokens.len()
    }

    /// Something else was expected here.
    pub(super) fn expected(&self, what: &str) -> Invalid {
        let message = match self.tokens.get(self.next) {
            Some(token) => format!("expected {what}, found {}", token.kind),
            None => format!("expected {what}, but the line ends"),
        };
        Invalid::new(self.place(), message)
    }

    fn peek(&self) -> Option<&TokenKind> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    /// Goes on to the next token.
    pub(super) fn skip(&mut self) {
        self.next += 1;
    }

    /// The next token, where it is a word.
    pub(super) fn peek_word(&self) -> Option<&str> {
        match self.peek() {
            Some(TokenKind::Word(word)) => Some(word),
            _ => None,
        }
    }

    /// Ends the line.
    pub(super) fn end(&self) -> Result<(), Invalid> {
        if self.is_at_end() {
            return Ok(());
        }
        Err(self.expected("the end of the line"))
    }

    pub(super) fn word(&mut self, what: &str) -> Result<(String, Span), Invalid> {
        let place = self.place();
        match self.peek_word() {
            Some(word) => {
                let word = word.to_owned();
                self.next += 1;
                Ok((word, place))
            }
            None => Err(self.expected(what)),
        }
    }

    /// Takes a certain word, if it is next.
    pub(super) fn take(&mut self, word: &str) -> bool {
        let found = self.peek_word() == Some(word);
        self.next += usize::from(found);
        found
    }

    pub(super) fn keyword(&mut self, word: &str) -> Result<(), Invalid> {
        if self.take(word) {
            return Ok(());
        }
        let invalid = self.expected(&format!("`{word}`"));
        Err(match self.peek_word() {
            Some(found) => invalid.suggest(found, [word]),
            None => invalid,
        })
    }

    /// Takes a certain sign, if it is next.
    pub(super) fn take_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(TokenKind::Sign(next)) if *next == sign);
        self.next += usize::from(found);
        found
    }

    fn sign(&mut self, sign: &str) -> Result<(), Invalid> {
        if self.take_sign(sign) {
            return Ok(());
        }
        Err(self.expected(&format!("`{sign}`")))
    }

    /// One of a few words.
    pub(super) fn choice<T: Choice>(&mut self, what: &str) -> Result<T, Invalid> {
        self.choice_of(what, T::words())
    }

    /// One of a few words, where others would have been right too.
    pub(super) fn choice_of<T: Choice>(
        &mut self,
        what: &str,
        known: impl Iterator<Item = &'static str>,
    ) -> Result<T, Invalid> {
        if let Some(choice) = self.peek_word().and_then(T::of) {
            self.next += 1;
            return Ok(choice);
        }
        let known: Vec<&str> = known.collect();
        let invalid = self.expected(what);
        Err(match self.peek_word() {
            Some(found) => {
                let found = found.to_owned();
                let near = invalid.suggest(&found, known.iter().copied());
                match near.help {
                    Some(_) => near,
                    None => near.help(format_args!("there is {}", known.join(", "))),
                }
            }
            None => invalid.help(format_args!("there is {}", known.join(", "))),
        })
    }

    pub(super) fn comparison(&mut self) -> Result<Comparison, Invalid> {
        self.take_comparison()
            .ok_or_else(|| self.expected("a comparison, such as `=`"))
    }

    pub(super) fn take_comparison(&mut self) -> Option<Comparison> {
        match self.peek() {
            Some(TokenKind::Sign(sign)) => {
                let comparison = Comparison::of(sign)?;
                self.next += 1;
                Some(comparison)
            }
            _ => None,
        }
    }

    /// A number that is written down.
    pub(super) fn number(&mut self) -> Result<Count, Invalid> {
        let span = self.place();
        match self.peek() {
            Some(TokenKind::Number { value, .. }) => {
                let value = *value;
                self.next += 1;
                Ok(Count { value, span })
            }
            _ => Err(self.expected("a number")),
        }
    }

    // --- names ---

    /// A name that is given or used here, without its index.
    fn plain_name(&mut self, what: &str) -> Result<Name, Invalid> {
        let (text, span) = self.word(what)?;
        let message = match text.as_str() {
            word if RESERVED.contains(&word)
                || QUANTITIES.contains(&word)
                || Constant::of(word).is_some() =>
            {
                format!("`{word}` is a word of the language and no name")
            }
            word if word.contains(['-', '.']) => {
                format!("`{word}` is no name: names have letters, digits and `_`")
            }
            _ => {
                return Ok(Name {
                    text,
                    index: None,
                    of: None,
                    span,
                });
            }
        };
        let invalid = Invalid::new(span, message);
        Err(if text.contains('-') {
            invalid.help("a minus sign between names needs spaces around it")
        } else {
            invalid
        })
    }

    /// A name that is given here, or one of several.
    pub(super) fn name(&mut self) -> Result<Name, Invalid> {
        self.plain_name("a name")
    }

    /// A name with an index, if any.
    pub(super) fn indexed(&mut self, what: &str, names: &Names) -> Result<Name, Invalid> {
        let mut name = self.plain_name(what)?;
        if self.take_sign("[") {
            name.index = Some(Box::new(self.expr(names)?));
            self.sign("]")?;
        }
        Ok(name)
    }

    /// A name that is given here to something of `kind`.
    pub(super) fn define(&mut self, names: &mut Names, kind: Kind) -> Result<Name, Invalid> {
        let what = format!("a name for the {}", kind.word());
        let name = self.indexed(&what, names)?;
        names.define(&name, kind)?;
        Ok(name)
    }

    /// A name that something of one of these kinds has.
    pub(super) fn used(&mut self, names: &Names, kinds: &[Kind]) -> Result<Name, Invalid> {
        let words: Vec<_> = kinds.iter().map(|kind| kind.word()).collect();
        let what = format!("the name of a {}", words.join(" or "));
        let mut name = self.indexed(&what, names)?;
        let kind = names.check(&name, kinds)?;
        self.inherited(&mut name, kind, names)?;
        Ok(name)
    }

    /// The rest of a name, where it is what a child has of something of this kind.
    fn inherited(&mut self, name: &mut Name, kind: Kind, names: &Names) -> Result<(), Invalid> {
        if Kind::INHERITED.contains(&kind) && self.take("of") {
            name.of = Some(Box::new(self.used(names, &[Kind::Process])?));
        }
        Ok(())
    }

    pub(super) fn context(&mut self, names: &Names) -> Result<Name, Invalid> {
        self.used(names, &[Kind::Context])
    }

    // --- numbers ---

    pub(super) fn expr(&mut self, names: &Names) -> Result<Expr, Invalid> {
        self.binary(names, 1)
    }

    /// A number behind a word, if the word is next.
    pub(super) fn option(&mut self, word: &str, names: &Names) -> Result<Option<Expr>, Invalid> {
        if self.take(word) {
            return self.expr(names).map(Some);
        }
        Ok(None)
    }

    fn binary(&mut self, names: &Names, binds: u8) -> Result<Expr, Invalid> {
        let mut one = self.primary(names)?;
        loop {
            let operator = match self.peek() {
                Some(TokenKind::Sign(sign)) => Operator::of(sign),
                _ => None,
            };
            let Some(operator) = operator.filter(|operator| operator.binds() >= binds) else {
                return Ok(one);
            };
            self.next += 1;
            let other = self.binary(names, operator.binds() + 1)?;
            let span = one.span.to(other.span);
            let kind = ExprKind::Binary(Box::new(one), operator, Box::new(other));
            one = Expr { kind, span };
        }
    }

    /// A number without an operation around it.
    pub(super) fn primary(&mut self, names: &Names) -> Result<Expr, Invalid> {
        let start = self.place();
        let kind = match self.peek() {
            Some(TokenKind::Number { value, hex }) => {
                let (value, hex) = (*value, *hex);
                self.next += 1;
                let unit = self.peek_word().and_then(Unit::of);
                self.next += usize::from(unit.is_some());
                ExprKind::Number { value, hex, unit }
            }
            Some(TokenKind::Sign("(")) => {
                self.next += 1;
                self.enter(start)?;
                let inside = self.expr(names)?;
                self.sign(")")?;
                self.nested -= 1;
                inside.kind
            }
            Some(TokenKind::Word(word)) if word == "random" => {
                self.next += 1;
                self.enter(start)?;
                self.sign("(")?;
                let low = self.expr(names)?;
                self.sign(",")?;
                let high = self.expr(names)?;
                self.sign(")")?;
                self.nested -= 1;
                ExprKind::Random(Box::new(low), Box::new(high))
            }
            Some(TokenKind::Word(word)) => match Constant::of(word) {
                Some(constant) => {
                    self.next += 1;
                    ExprKind::Constant(constant)
                }
                None => {
                    self.enter(start)?;
                    let mut name = self.indexed("a number", names)?;
                    let kind = names.check(&name, Kind::NUMBERS)?;
                    self.inherited(&mut name, kind, names)?;
                    self.nested -= 1;
                    ExprKind::Name(Box::new(name))
                }
            },
            _ => return Err(self.expected("a number")),
        };
        let end = match self
            .next
            .checked_sub(1)
            .and_then(|last| self.tokens.get(last))
        {
            Some(last) => last.span,
            None => start,
        };
        Ok(Expr {
            kind,
            span: start.to(end),
        })
    }

    fn enter(&mut self, at: Span) -> Result<(), Invalid> {
        self.nested += 1;
        if self.nested > MAX_NESTED {
            return Err(Invalid::new(at, "brackets lie too deep in each other"));
        }
        Ok(())
    }
}
