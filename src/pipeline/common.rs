//! [`Common`]: what the names of several stages have in common.

use std::sync::Arc;

/// What the names of several stages have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub(super) enum Common {
    /// All have this name.
    Name(Arc<str>),
    /// They have a beginning and an end in common.
    Part {
        begin: Arc<str>,
        end: Arc<str>,
        /// The length of the shortest name, in bytes. The beginning and the end do not overlap in it.
        shortest: usize,
    },
}

impl Default for Common {
    fn default() -> Self {
        Self::Name(Arc::default())
    }
}

impl Common {
    /// The beginning, the end, and the length of the shortest name.
    fn parts(&self) -> (&Arc<str>, &Arc<str>, usize) {
        match self {
            Self::Name(name) => (name, name, name.len()),
            Self::Part { begin, end, shortest } => (begin, end, *shortest),
        }
    }

    /// What two have in common.
    pub(super) fn with(&self, other: &Self) -> Self {
        if self == other {
            return self.clone();
        }
        let ((own_begin, own_end, own_shortest), (begin, end, shortest)) = (self.parts(), other.parts());
        let shortest = shortest.min(own_shortest);
        let equal = |(one, other): &(char, char)| one == other;
        let bytes = |pairs: &mut dyn Iterator<Item = (char, char)>| pairs.map(|(one, _)| one.len_utf8()).sum::<usize>();
        let same = bytes(&mut own_begin.chars().zip(begin.chars()).take_while(equal));
        let begin = whole_words(&own_begin[..same], str::trim_end_matches, str::trim_end_matches);
        let same = bytes(&mut own_end.chars().rev().zip(end.chars().rev()).take_while(equal));
        let end = whole_words(&own_end[own_end.len() - same..], str::trim_start_matches, str::trim_start_matches);
        // In the shortest, they must not overlap.
        let fits = |cut: &usize| end.is_char_boundary(*cut) && end.len() - cut + begin.len() <= shortest;
        let cut = (0..=end.len()).find(fits).unwrap_or(end.len());
        Self::Part { begin: begin.into(), end: end[cut..].into(), shortest }
    }

    /// Whether all names that the other stands for have this in common.
    pub(super) fn fit(&self, other: &Self) -> bool {
        match self {
            Self::Name(_) => self == other,
            Self::Part { begin, end, .. } => {
                let (other_begin, other_end, shortest) = other.parts();
                shortest >= begin.len() + end.len() && other_begin.starts_with(&**begin) && other_end.ends_with(&**end)
            }
        }
    }

    /// A name for all of them.
    pub(super) fn name(&self) -> Arc<str> {
        match self {
            Self::Name(name) => Arc::clone(name),
            Self::Part { begin, end, .. } => format!("{begin}*{end}").into(),
        }
    }
}

/// A common part of two names without the word or number that is cut at its end. From a part that is one word, only a
/// number is removed.
fn whole_words<'a>(
    part: &'a str,
    trim_word: impl Fn(&'a str, fn(char) -> bool) -> &'a str,
    trim_number: impl Fn(&'a str, fn(char) -> bool) -> &'a str,
) -> &'a str {
    match trim_word(part, char::is_alphanumeric) {
        "" => trim_number(part, |letter| letter.is_ascii_digit()),
        words => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(names: &[&str]) -> String {
        let single: Vec<_> = names.iter().map(|name| Common::Name((*name).into())).collect();
        let all = single.iter().cloned().reduce(|one, other| one.with(&other)).unwrap();
        assert!(single.iter().all(|name| all.fit(name)), "{names:?}: {all:?}");
        all.name().to_string()
    }

    #[test]
    fn names_have_whole_words_in_common() {
        assert_eq!(common(&["import-17", "import-18", "import-9"]), "import-*");
        assert_eq!(common(&["read a1.csv", "read b1.csv"]), "read *.csv");
        assert_eq!(common(&["job-1-parse", "job-12-parse"]), "job-*-parse");
        assert_eq!(common(&["tenant7", "tenant71"]), "tenant*");
        assert_eq!(common(&["ann", "bob"]), "*");
        // They overlap in the shortest.
        assert_eq!(common(&["aa", "aaa"]), "aa*");
        assert_eq!(common(&["größe-ä", "größe-ö", "größe-"]), "größe-*");
        assert_eq!(common(&["", "x"]), "*");
        // A single name stays as it is.
        assert_eq!(common(&["tenant7", "tenant7"]), "tenant7");
    }
}
