//! [`Aggregate`]: one value per `n` items, or per period.

pub(in crate::operators) mod operator;
mod processor;
#[cfg(test)]
mod tests;

pub use processor::Aggregate;
