//! Draws a [`Report`](crate::Report) as text, in the languages of Mermaid and of Graphviz.
//!
//! [`graph`] decides what is drawn; [`mermaid`] and [`dot`] write it down, each with the escapes of its language.

mod dot;
mod graph;
mod mermaid;

/// Replaces a character that is not allowed in an SVG text, or that would change its layout, by a visible one.
fn visible(c: char) -> char {
    match c {
        '\0'..='\x1f' => char::from_u32(0x2400 + c as u32).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        // The last two code points of each plane are not characters.
        _ if c as u32 & 0xfffe == 0xfffe || ('\u{fdd0}'..='\u{fdef}').contains(&c) => char::REPLACEMENT_CHARACTER,
        _ => c,
    }
}
