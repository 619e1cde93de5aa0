//! The command line. A help that cannot be written is a failure, as any other output is.

use std::io::{self, ErrorKind, Write};

use clap::Parser;
use streamz::{BoxError, Result};

/// The arguments of the program. `None` if they ask for the help, which has been printed then. Ends the program if they are
/// invalid.
pub(crate) fn parse<A: Parser>() -> Result<Option<A>, BoxError> {
    let help = match A::try_parse() {
        Ok(args) => return Ok(Some(args)),
        Err(error) if error.use_stderr() => error.exit(),
        Err(help) => help,
    };
    match help.print().and_then(|()| io::stdout().flush()) {
        // A closed standard output is not an error.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {error}").into())
        }
        _ => Ok(None),
    }
}
