//! From a filter's text to its tree, and messages that point at the slip.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::filter::ast::{CompareOp, Expr, Filter, Literal, MAX_FILTER_DEPTH};
use crate::filter::lex::{self, Token, TokenKind};

/// Longest text of a filter in bytes.
const MAX_FILTER_BYTES: usize = 1 << 20;
/// How much of a long line is shown on each side of a slip, in characters.
const SHOWN_CHARS: usize = 50;

const COMPARISONS: [(&str, CompareOp); 6] = [
    ("=", CompareOp::Eq),
    ("!=", CompareOp::Ne),
    ("<", CompareOp::Lt),
    ("<=", CompareOp::Le),
    (">", CompareOp::Gt),
    (">=", CompareOp::Ge),
];

impl FromStr for Filter {
    type Err = Error;

    /// Reads the text form. Any text is welcome: depth and size are bounded.
    ///
    /// # Errors
    /// `Invalid` with the byte of the first slip, what was expected there, and a line that points at it.
    fn from_str(text: &str) -> Result<Self> {
        if text.len() > MAX_FILTER_BYTES {
            let message = format!("the filter has {} bytes, at most {MAX_FILTER_BYTES}", text.len());
            return Err(Error::invalid("AKI-0152", message));
        }
        let tokens =
            lex::tokens(text).map_err(|bad| Slip { start: bad.start, what: bad.what }.into_error(text))?;
        let mut parser = Parser { text, tokens, at: 0, depth: 0 };
        parser.whole().map_err(|stop| match stop {
            Stop::Slip(slip) => slip.into_error(text),
            Stop::TooDeep(start) => too_deep().at_offset(start as u64).help_is(pointer(text, start)),
        })
    }
}

impl TryFrom<&str> for Filter {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        text.parse()
    }
}

impl TryFrom<String> for Filter {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl TryFrom<&String> for Filter {
    type Error = Error;

    fn try_from(text: &String) -> Result<Self> {
        text.parse()
    }
}

pub(super) fn too_deep() -> Error {
    Error::invalid("AKI-0151", format!("the filter is nested over {MAX_FILTER_DEPTH} deep"))
}

/// What is wrong at byte `start`.
struct Slip {
    start: usize,
    what: String,
}

impl Slip {
    fn into_error(self, text: &str) -> Error {
        Error::invalid("AKI-0150", format!("the filter does not parse: {}", self.what))
            .at_offset(self.start as u64)
            .help_is(pointer(text, self.start))
    }
}

enum Stop {
    Slip(Slip),
    TooDeep(usize),
}

/// The line of the slip with a caret under it.
fn pointer(text: &str, start: usize) -> String {
    let line_start = text[..start].rfind('\n').map_or(0, |n| n + 1);
    let before: Vec<char> = text[line_start..start].chars().collect();
    let after = text[start..].chars().take_while(|c| *c != '\n');
    let skipped = before.len().saturating_sub(SHOWN_CHARS);
    let dots = if skipped > 0 { "..." } else { "" };
    let shown = before[skipped..].iter().copied().chain(after.take(SHOWN_CHARS));
    // One column a character: a tab or an escape would shift the caret.
    let shown: String = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
    let blanks = " ".repeat(dots.len() + before.len() - skipped);
    format!("look at the mark:\n  {dots}{}\n  {blanks}^", shown.trim_end())
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

type Parsed<T> = std::result::Result<T, Stop>;

impl Parser<'_> {
    fn whole(&mut self) -> Parsed<Filter> {
        let filter = self.either()?;
        match self.peek() {
            TokenKind::End if filter.is_too_deep() => Err(Stop::TooDeep(0)),
            TokenKind::End => Ok(filter),
            TokenKind::Symbol("==") => self.expected("an operator (write = once)"),
            _ => self.expected("`and`, `or` or the end"),
        }
    }

    fn either(&mut self) -> Parsed<Filter> {
        let mut parts = vec![self.both()?];
        while self.takes_keyword("or") {
            parts.push(self.both()?);
        }
        Ok(Filter::joined(parts, false))
    }

    fn both(&mut self) -> Parsed<Filter> {
        let mut parts = vec![self.one()?];
        while self.takes_keyword("and") {
            parts.push(self.one()?);
        }
        Ok(Filter::joined(parts, true))
    }

    fn one(&mut self) -> Parsed<Filter> {
        let start = self.token().start;
        if self.takes_keyword("not") {
            return self.deeper(start, |parser| Ok(!parser.one()?));
        }
        if self.takes_symbol("(") {
            return self.deeper(start, |parser| {
                let inner = parser.either()?;
                match parser.takes_symbol(")") {
                    true => Ok(inner),
                    false => parser.expected("`and`, `or` or `)`"),
                }
            });
        }
        self.comparison()
    }

    /// The only way down: it bounds the stack.
    fn deeper(&mut self, start: usize, parse: impl FnOnce(&mut Self) -> Parsed<Filter>) -> Parsed<Filter> {
        if self.depth == MAX_FILTER_DEPTH {
            return Err(Stop::TooDeep(start));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn comparison(&mut self) -> Parsed<Filter> {
        let field = match self.peek() {
            TokenKind::Name(name) | TokenKind::QuotedName(name) => name.clone(),
            _ => return self.expected("a field's name, `not` or `(`"),
        };
        self.at += 1;
        let expr = match *self.peek() {
            TokenKind::Symbol(symbol) => match COMPARISONS.iter().find(|(text, _)| *text == symbol) {
                Some((_, op)) => {
                    self.at += 1;
                    Expr::Compare { field, op: *op, value: self.value()? }
                }
                None if symbol == "==" => return self.expected("an operator (write `=` once)"),
                None => return self.expected(OPERATORS),
            },
            TokenKind::Keyword("contains") => {
                self.at += 1;
                Expr::Contains { field, value: self.value()? }
            }
            TokenKind::Keyword("is") => {
                self.at += 1;
                let negated = self.takes_keyword("not");
                if !self.takes_keyword("null") {
                    return self.expected(if negated { "`null`" } else { "`null` or `not null`" });
                }
                Expr::IsNull { field, negated }
            }
            TokenKind::Keyword("not" | "in") => {
                let negated = self.takes_keyword("not");
                if !self.takes_keyword("in") {
                    return self.expected("`in`");
                }
                Expr::In { field, values: self.list()?, negated }
            }
            _ => return self.expected(OPERATORS),
        };
        Ok(Filter::of(expr))
    }

    fn list(&mut self) -> Parsed<Vec<Literal>> {
        if !self.takes_symbol("(") {
            return self.expected("`(` and a list of values");
        }
        let mut values = vec![self.value()?];
        while self.takes_symbol(",") {
            values.push(self.value()?);
        }
        match self.takes_symbol(")") {
            true => Ok(values),
            false => self.expected("`,` or `)`"),
        }
    }

    fn value(&mut self) -> Parsed<Literal> {
        let value = match self.peek() {
            TokenKind::Text(text) => Literal::Text(text.clone()),
            TokenKind::Int(n) => Literal::Int(*n),
            TokenKind::Float(x) => Literal::Float(*x),
            TokenKind::Keyword("true") => Literal::Bool(true),
            TokenKind::Keyword("false") => Literal::Bool(false),
            TokenKind::Keyword("null") => {
                return self.expected("a value (absent values are found with `is null`)");
            }
            TokenKind::Name(_) | TokenKind::QuotedName(_) => {
                return self.expected("a value (texts stand in single quotes, like 'en')");
            }
            _ => return self.expected("a value"),
        };
        self.at += 1;
        Ok(value)
    }

    fn token(&self) -> &Token {
        // The last token is the end, and nothing steps past it.
        &self.tokens[self.at]
    }

    fn peek(&self) -> &TokenKind {
        &self.token().kind
    }

    fn takes_keyword(&mut self, keyword: &str) -> bool {
        let is_next = matches!(self.peek(), TokenKind::Keyword(k) if *k == keyword);
        self.at += usize::from(is_next);
        is_next
    }

    fn takes_symbol(&mut self, symbol: &str) -> bool {
        let is_next = matches!(self.peek(), TokenKind::Symbol(s) if *s == symbol);
        self.at += usize::from(is_next);
        is_next
    }

    fn expected<T>(&self, expected: &str) -> Parsed<T> {
        let token = self.token();
        let found = match token.kind {
            TokenKind::End => "the end".to_owned(),
            _ => {
                let found = &self.text[token.start..token.end];
                let more = if found.chars().nth(40).is_some() { ".." } else { "" };
                format!("`{}{more}`", found.chars().take(40).collect::<String>().escape_debug())
            }
        };
        Err(Stop::Slip(Slip { start: token.start, what: format!("expected {expected}, found {found}") }))
    }
}

const OPERATORS: &str = "=, !=, <, <=, >, >=, `in`, `not in`, `contains` or `is`";

#[cfg(test)]
mod tests;
