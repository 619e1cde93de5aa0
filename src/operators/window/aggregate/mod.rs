//! [`Aggregate`]: one value per `n` items, or per period.

mod operator;
mod processor;
#[cfg(test)]
mod tests;

pub use operator::AggregateOperator;
pub use processor::Aggregate;
