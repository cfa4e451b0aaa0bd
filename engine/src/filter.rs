//! Filters: which rows a search, scan or count takes. Text or builder in, a tree bound to a schema out.

#[cfg(test)]
pub(crate) mod arbitrary;
mod ast;
mod bind;
mod canonical;
mod coded;
mod coding;
mod columnwise;
mod dictionary;
mod eval;
mod extent;
mod lex;
mod parse;

pub use ast::{Filter, Literal};
pub(crate) use bind::Bound;
pub(crate) use coded::Coded;
pub(crate) use coding::{Coding, ListCoding, float_key};
pub(crate) use columnwise::Columns;
pub(crate) use eval::{RowFields, Source};
pub(crate) use extent::Extent;
