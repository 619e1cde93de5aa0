//! Seven everyday programs, written with the library as its documentation says, each the size of what people begin with.

mod adaptor;
mod configured;
mod custom_operator;
mod gateway;
mod hash_files;
mod log_tailer;
mod parity;
