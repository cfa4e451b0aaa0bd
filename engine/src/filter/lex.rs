//! The words of a filter's text, each with its place.

use winnow::ascii::{digit1, multispace0};
use winnow::combinator::{alt, delimited, opt, repeat};
use winnow::error::EmptyError;
use winnow::prelude::*;
use winnow::stream::{LocatingSlice, Location, Stream};
use winnow::token::{one_of, take_till, take_while};

/// Words that are no names unless quoted.
const KEYWORDS: [&str; 9] = ["and", "or", "not", "in", "is", "null", "contains", "true", "false"];

/// One word and its bytes in the text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) start: usize,
    pub(super) end: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    /// A keyword, in lower case.
    Keyword(&'static str),
    /// A bare name.
    Name(String),
    /// A name in double quotes.
    QuotedName(String),
    Text(String),
    Int(i64),
    Float(f64),
    /// An operator, a parenthesis or a comma.
    Symbol(&'static str),
    /// After the last word.
    End,
}

/// What cannot be a word, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadToken {
    pub(super) start: usize,
    pub(super) what: String,
}

type Input<'a> = LocatingSlice<&'a str>;
type Lexed<T> = winnow::Result<T, EmptyError>;

/// The words of `text`; the last is always [`TokenKind::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, BadToken> {
    let mut input = LocatingSlice::new(text);
    let mut tokens = Vec::new();
    loop {
        skip_space(&mut input);
        let start = input.current_token_start();
        if input.is_empty() {
            tokens.push(Token { kind: TokenKind::End, start, end: start });
            return Ok(tokens);
        }
        let raw =
            token(&mut input).map_err(|EmptyError| BadToken { start, what: complaint(&text[start..]) })?;
        let end = input.current_token_start();
        let kind = match raw {
            Raw::Kind(kind) => kind,
            Raw::Number(number) => {
                let word_end = text[end..].find(|c| !is_name_part(c)).map_or(text.len(), |n| end + n);
                // `12abc` is neither a number nor a name.
                let kind = if word_end > end { None } else { number_kind(number) };
                kind.ok_or_else(|| bad_number(start, &text[start..word_end], word_end > end))?
            }
        };
        tokens.push(Token { kind, start, end });
    }
}

enum Raw<'a> {
    Kind(TokenKind),
    Number(&'a str),
}

fn skip_space(input: &mut Input<'_>) {
    let skipped: Lexed<&str> = multispace0.parse_next(input);
    skipped.expect("no space is also some");
}

fn token<'a>(input: &mut Input<'a>) -> Lexed<Raw<'a>> {
    alt((
        quoted('\'').map(|text| Raw::Kind(TokenKind::Text(text))),
        quoted('"').map(|name| Raw::Kind(TokenKind::QuotedName(name))),
        number.map(Raw::Number),
        word.map(Raw::Kind),
        symbol.map(|symbol| Raw::Kind(TokenKind::Symbol(symbol))),
    ))
    .parse_next(input)
}

/// Anything between two `quote`s, where two in a row stand for one.
fn quoted<'a>(quote: char) -> impl Parser<Input<'a>, String, EmptyError> {
    let piece = move |input: &mut Input<'a>| -> Lexed<&'a str> {
        if input.starts_with(quote) {
            input.next_token();
            // The second of a pair stays in the text, the first goes; a lone one ends it.
            return if input.starts_with(quote) {
                take_while(1, quote).parse_next(input)
            } else {
                Err(EmptyError)
            };
        }
        take_till(1.., quote).parse_next(input)
    };
    let pieces = repeat(0.., piece).fold(String::new, |mut text, piece| {
        text.push_str(piece);
        text
    });
    delimited(quote, pieces, quote)
}

fn number<'a>(input: &mut Input<'a>) -> Lexed<&'a str> {
    let exponent = (one_of(['e', 'E']), opt(one_of(['+', '-'])), digit1);
    (opt(one_of(['+', '-'])), digit1, opt(('.', digit1)), opt(exponent)).take().parse_next(input)
}

fn number_kind(number: &str) -> Option<TokenKind> {
    if number.contains(['.', 'e', 'E']) {
        return number.parse().ok().filter(|x: &f64| x.is_finite()).map(TokenKind::Float);
    }
    number.parse().ok().map(TokenKind::Int)
}

fn word(input: &mut Input<'_>) -> Lexed<TokenKind> {
    let word: &str = (one_of(is_name_start), take_while(0.., is_name_part)).take().parse_next(input)?;
    Ok(match KEYWORDS.iter().find(|keyword| keyword.eq_ignore_ascii_case(word)) {
        Some(keyword) => TokenKind::Keyword(keyword),
        None => TokenKind::Name(word.to_owned()),
    })
}

fn symbol(input: &mut Input<'_>) -> Lexed<&'static str> {
    alt((
        alt(("<=".value("<="), ">=".value(">="), "!=".value("!="), "<>".value("!="), "==".value("=="))),
        alt(("=".value("="), "<".value("<"), ">".value(">"))),
        alt(("(".value("("), ")".value(")"), ",".value(","))),
    ))
    .parse_next(input)
}

fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_name_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `name` unquoted reads back as this name.
pub(super) fn is_bare_name(name: &str) -> bool {
    name.starts_with(is_name_start)
        && name.chars().all(is_name_part)
        && !KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(name))
}

fn bad_number(start: usize, word: &str, has_letters: bool) -> BadToken {
    let word: String = word.chars().take(40).collect();
    let what = match has_letters {
        true => format!("`{word}` is neither a number nor a name"),
        false if word.contains(['.', 'e', 'E']) => format!("`{word}` is too large for a float"),
        false => format!("`{word}` does not fit 64 bits; a float is written with a point or an exponent"),
    };
    BadToken { start, what }
}

fn complaint(rest: &str) -> String {
    match rest.chars().next() {
        Some('\'') => "the text that begins here has no closing quote '".to_owned(),
        Some('"') => "the name that begins here has no closing quote \"".to_owned(),
        Some(c) => format!("{c:?} means nothing in a filter"),
        None => "nothing is left".to_owned(),
    }
}
