//! The text of a [`StreamError`] in a log, on a terminal, and in a debugger.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use super::utc::Utc;
use super::{ErrorKind, StreamError};

/// `{}` says which stage failed and how, and leaves the cause to [`source`](std::error::Error::source). `{:#}` adds the
/// type of the item and the whole chain of causes: ``stage `load` failed after 3 attempts (item: shop::Order): cannot
/// write: disk full``.
impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_summary(f)?;
        if f.alternate() {
            self.write_item_type(f)?;
            self.write_reasons(f)?;
        }
        Ok(())
    }
}

/// `{:?}` is one readable line, for a `main` that returns a `Result`: as `{:#}` of [`Display`](fmt::Display), with the
/// time in UTC, and with line breaks and other control characters escaped. `{:#?}` shows the fields.
impl fmt::Debug for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            let details = self.details();
            return f
                .debug_struct("StreamError")
                .field("kind", &details.kind)
                .field("stage", &details.stage)
                .field("step", &details.step)
                .field("attempts", &details.attempts)
                .field("time", &format_args!("{}", Utc(details.time)))
                .field("source", &self.boxed_source())
                .field("item_type", &self.item_type())
                .finish();
        }
        let mut line = OneLine(f);
        self.write_summary(&mut line)?;
        if self.time() != SystemTime::UNIX_EPOCH {
            write!(line, " at {}", Utc(self.time()))?;
        }
        self.write_item_type(&mut line)?;
        self.write_reasons(&mut line)
    }
}

/// The parts of an error's text.
impl StreamError {
    fn write_summary(&self, f: &mut impl fmt::Write) -> fmt::Result {
        let details = self.details();
        match details.kind {
            ErrorKind::Cancelled => return write!(f, "stream cut short after stage `{}`", details.stage),
            kind => write!(f, "stage `{}` {kind}", details.stage)?,
        }
        if let Some(step) = &details.step {
            write!(f, " in step `{step}`")?;
        }
        if details.attempts > 1 {
            write!(f, " after {} attempts", details.attempts)?;
        }
        Ok(())
    }

    fn write_item_type(&self, f: &mut impl fmt::Write) -> fmt::Result {
        self.item_type().map_or(Ok(()), |item| write!(f, " (item: {item})"))
    }

    fn write_reasons(&self, f: &mut impl fmt::Write) -> fmt::Result {
        let mut next = std::error::Error::source(self);
        while let Some(reason) = next {
            // An error of another stage has an item too, and writes its own causes.
            if let Some(error) = reason.downcast_ref::<StreamError>() {
                return write!(f, ": {error:#}");
            }
            write!(f, ": {reason}")?;
            next = reason.source();
        }
        Ok(())
    }
}

/// Escapes control characters in the text written through it.
struct OneLine<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(char::is_control) {
            match piece.chars().next_back() {
                Some(last) if last.is_control() => {
                    self.0.write_str(&piece[..piece.len() - last.len_utf8()])?;
                    write!(self.0, "{}", last.escape_default())?;
                }
                _ => self.0.write_str(piece)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Details;

    #[test]
    fn says_where_and_leaves_the_cause_to_its_source() {
        let error = StreamError::new(ErrorKind::Failed, "load").with_attempts(3).with_source("disk full");
        assert_eq!(error.to_string(), "stage `load` failed after 3 attempts");
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "disk full");
    }
    fn order_error() -> StreamError {
        let disk = StreamError::new(ErrorKind::Failed, "write")
            .with_item(7_u32)
            .with_source(std::io::Error::other("disk\nfull"));
        Details::new(ErrorKind::Failed, "load".into())
            .with_step(Some("sum".into()))
            .with_attempts(3)
            .with_source(disk)
            .about(String::from("x"))
    }

    #[test]
    fn alternate_display_is_the_chain_with_item_types() {
        assert_eq!(
            format!("{:#}", order_error()),
            "stage `load` failed in step `sum` after 3 attempts (item: alloc::string::String): \
             stage `write` failed (item: u32): disk\nfull"
        );
        assert_eq!(format!("{:#}", StreamError::new(ErrorKind::Late, "window")), "stage `window` late");
    }

    #[test]
    fn debug_is_one_line_with_the_time() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_709_210_096_250);
        let error = order_error().with_time(time);
        assert_eq!(
            format!("{error:?}"),
            "stage `load` failed in step `sum` after 3 attempts at 2024-02-29T12:34:56.250Z \
             (item: alloc::string::String): stage `write` failed (item: u32): disk\\nfull"
        );
        let untimed = StreamError::new(ErrorKind::Cancelled, "a\u{1b}[31m");
        assert_eq!(format!("{untimed:?}"), "stream cut short after stage `a\\u{1b}[31m`");
    }

    #[test]
    fn alternate_debug_shows_the_fields() {
        let shown = format!("{:#?}", order_error());
        for field in
            ["kind: Failed", "stage: \"load\"", "attempts: 3", "time: 1970-01-01T00:00:00.000Z", "source: Some"]
        {
            assert!(shown.contains(field), "{field} is missing in {shown}");
        }
    }
}
