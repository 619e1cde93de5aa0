//! Finds the columns of a table by the names in its header.

use std::fmt;

/// What is wrong with a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// It has none of the columns.
    NoneFound,
    Missing(Vec<&'static str>),
    /// Names that occur more than once.
    Repeated(Vec<&'static str>),
}

/// The place of each wanted column.
///
/// The columns may stand in any order, and between others. Upper and lower case are the same in a name, and blanks around
/// it do not count.
pub(crate) fn locate<const N: usize>(
    header: &[&str],
    wanted: &[&'static str; N],
) -> Result<[usize; N], HeaderError> {
    let places = |name: &str| {
        let is_it = move |(_, found): &(usize, &&str)| found.trim().eq_ignore_ascii_case(name);
        let mut places = header.iter().enumerate().filter(is_it).map(|(place, _)| place);
        (places.next(), places.next())
    };
    let found = wanted.map(places);
    let names = |is_wrong: fn(&(Option<usize>, Option<usize>)) -> bool| {
        wanted
            .iter()
            .zip(&found)
            .filter(|(_, places)| is_wrong(places))
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
    };
    let missing = names(|(first, _)| first.is_none());
    let repeated = names(|(_, second)| second.is_some());
    if missing.len() == N {
        return Err(HeaderError::NoneFound);
    }
    if !missing.is_empty() {
        return Err(HeaderError::Missing(missing));
    }
    if !repeated.is_empty() {
        return Err(HeaderError::Repeated(repeated));
    }
    Ok(found.map(|(first, _)| first.unwrap_or_default()))
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoneFound => f.write_str("it has none of the columns"),
            Self::Missing(names) => write!(f, "it has no {}", Listed(names)),
            Self::Repeated(names) => write!(f, "it has {} more than once", Listed(names)),
        }
    }
}

/// "column `a`" or "columns `a`, `b`".
struct Listed<'a>(&'a [&'static str]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.len() == 1 { "column" } else { "columns" })?;
        for (index, name) in self.0.iter().enumerate() {
            write!(f, "{}`{name}`", if index == 0 { " " } else { ", " })?;
        }
        Ok(())
    }
}
