//! Filters: which rows a search, scan or count takes. Text or builder in, a tree bound to a schema out.

mod ast;
mod bind;
mod eval;
mod lex;
mod parse;

pub use ast::{Filter, Literal};
pub(crate) use bind::Bound;
pub(crate) use eval::RowFields;
