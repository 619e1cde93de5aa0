//! What the types forbid.
//!
//! A pool has threads of its own and cannot share one with another step:
//! ```compile_fail,E0277
//! use streamz::{AsyncMapper, CancelToken, Mapper, Processor};
//! let pool = AsyncMapper::new(|_: &CancelToken, n: &u32| streamz::ok(*n));
//! let _ = pool.fuse(Mapper::new(|n: u32| n));
//! ```
//! with `then` each has its own:
//! ```
//! use streamz::{AsyncMapper, CancelToken, Mapper, Processor};
//! let pool = AsyncMapper::new(|_: &CancelToken, n: &u32| streamz::ok(*n));
//! let _ = pool.then(Mapper::new(|n: u32| n));
//! ```
//!
//! A stream has one consumer:
//! ```compile_fail,E0382
//! use streamz::{Pipeline, Stream};
//! let pipeline = Pipeline::new("two readers");
//! let stream = Stream::from_iter(&pipeline, 0..3);
//! let first = stream.map(|n: i32| n + 1);
//! let second = stream.map(|n: i32| n + 2);
//! ```
//!
//! The output of one processor must fit into the next:
//! ```compile_fail,E0271
//! use streamz::{Mapper, Processor};
//! let _ = Mapper::new(|n: u32| n.to_string()).then(Mapper::new(|n: u32| n));
//! ```
//!
//! An operator is not a processor by itself:
//! ```compile_fail,E0277
//! use streamz::{Emit, Operator, Pipeline, Stream};
//! struct Echo;
//! impl Operator for Echo {
//!     type In = u32;
//!     type Out = u32;
//!     fn item(&mut self, item: u32, out: &mut impl Emit<u32>) {
//!         out.emit(item);
//!     }
//! }
//! let pipeline = Pipeline::new("echo");
//! let _ = Stream::from_iter(&pipeline, 0..3).through(&Echo);
//! ```
//!
//! A mapper that cannot fail makes no call that could be retried:
//! ```compile_fail,E0277
//! use streamz::{Mapper, Retry};
//! let _ = Retry::new(Mapper::new(|n: u32| n + 1));
//! ```
//! one that can fail does:
//! ```
//! use streamz::{Mapper, Retry};
//! let _ = Retry::new(Mapper::fallible(|text: &String| text.parse::<u32>()));
//! ```
//!
//! A stage has a thread that may outlive the borrows of its closure:
//! ```compile_fail,E0373
//! use streamz::{Pipeline, Stream};
//! let factor = 3;
//! let (sum, _) = Pipeline::run("borrows", |pipeline| {
//!     Stream::from_iter(pipeline, 0..9).map(|n: i32| n * factor).fold(0, |sum, n| sum + n)
//! });
//! ```
//! a sink on the calling thread has none:
//! ```
//! use streamz::{Pipeline, Stream};
//! let factor = 3;
//! let (sum, _) = Pipeline::run("borrows", |pipeline| {
//!     Stream::from_iter(pipeline, 0..9).fold(0, |sum, n| sum + n * factor)
//! });
//! ```
//!
//! A closure that runs once returns nothing or a `Result`:
//! ```compile_fail,E0277
//! use streamz::Pipeline;
//! let (four, _) = Pipeline::run("four", |_| 2 + 2);
//! ```
