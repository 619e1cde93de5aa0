//! [`Panel`]: the last rows of the screen, as bytes for the terminal.
//!
//! While there is a panel the scrolling region ends above it, and the cursor is the program's: it stays where the
//! program's next output belongs. Everything below the row of the cursor is blank or belongs to the panel. So after a
//! change of the size, which may have moved the old panel anywhere below the cursor and may have reset the region,
//! erasing from the cursor to the end of the screen removes the panel, whatever the terminal did.

use std::io::Write;

use super::text::Line;

/// Columns and rows of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: u16,
    pub(super) rows: u16,
}

impl Size {
    /// The maximum number of rows of a panel: the program's output keeps a quarter of the screen, and at least two
    /// rows.
    pub(super) fn room(self) -> usize {
        usize::from(self.rows - (self.rows / 4).max(2).min(self.rows))
    }
}

/// The place of the panel on the screen.
#[derive(Debug, Default)]
pub(super) struct Panel {
    /// The size of the screen, and the number of rows of the panel.
    shown: Option<(Size, u16)>,
}

impl Panel {
    /// Appends the bytes that show `lines` as the last rows of the screen, at most as many as there is
    /// [room](Size::room) for.
    pub(super) fn draw(&mut self, size: Size, lines: &[Line], color: bool, out: &mut Vec<u8>) {
        let lines = &lines[..lines.len().min(size.room())];
        if lines.is_empty() {
            return self.remove(out);
        }
        let height = lines.len() as u16;
        if self.shown != Some((size, height)) {
            self.reserve(size, height, out);
        }
        // Save the cursor; do not wrap, in case the screen has become narrower since its size was read.
        out.extend_from_slice(b"\x1b7\x1b[?7l");
        for (row, line) in (size.rows - height + 1..).zip(lines) {
            // Erased before it is written: after a full line the cursor is on its last character.
            _ = write!(out, "\x1b[{row};1H\x1b[K");
            line.print(color, out);
        }
        out.extend_from_slice(b"\x1b[?7h\x1b8");
    }

    /// Makes room below the cursor, scrolling if there is none, and ends the scrolling region there.
    fn reserve(&mut self, size: Size, height: u16, out: &mut Vec<u8>) {
        self.shown = Some((size, height));
        Self::clear(out);
        // Index moves down and keeps the column.
        (0..height).for_each(|_| out.extend_from_slice(b"\x1bD"));
        // Setting the region moves the cursor.
        _ = write!(out, "\x1b[{height}A\x1b7\x1b[1;{}r\x1b8", size.rows - height);
    }

    /// Appends the bytes that release the rows.
    pub(super) fn remove(&mut self, out: &mut Vec<u8>) {
        if self.shown.take().is_some() {
            Self::clear(out);
        }
    }

    /// Makes the whole screen scroll again, and erases everything below the cursor.
    fn clear(out: &mut Vec<u8>) {
        out.extend_from_slice(b"\x1b7\x1b[r\x1b8\x1b[J");
    }

    /// For a panel that the view may no longer remove: another program may have used the screen.
    pub(super) fn forget(&mut self) {
        self.shown = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::live::text::Style;

    const SIZE: Size = Size { columns: 20, rows: 10 };

    fn lines(count: usize) -> Vec<Line> {
        (0..count).map(|n| Line::of(Style::Plain, n.to_string(), 1)).collect()
    }

    fn draw(panel: &mut Panel, size: Size, count: usize) -> String {
        let mut out = Vec::new();
        panel.draw(size, &lines(count), false, &mut out);
        String::from_utf8(out).unwrap()
    }

    const FRAME: &str = "\x1b7\x1b[?7l\x1b[9;1H\x1b[K\x1b[0m0\x1b[0m\x1b[10;1H\x1b[K\x1b[0m1\x1b[0m\x1b[?7h\x1b8";

    #[test]
    fn rows_are_reserved_once_and_drawn_at_the_end_of_the_screen() {
        let mut panel = Panel::default();
        let reserve = "\x1b7\x1b[r\x1b8\x1b[J\x1bD\x1bD\x1b[2A\x1b7\x1b[1;8r\x1b8";
        assert_eq!(draw(&mut panel, SIZE, 2), format!("{reserve}{FRAME}"));
        assert_eq!(draw(&mut panel, SIZE, 2), FRAME);
    }

    #[test]
    fn another_size_or_height_reserves_again() {
        let mut panel = Panel::default();
        draw(&mut panel, SIZE, 2);
        assert!(draw(&mut panel, SIZE, 3).contains("\x1b[1;7r"));
        assert!(draw(&mut panel, Size { columns: 21, ..SIZE }, 3).contains("\x1b[1;7r"));
        assert!(draw(&mut panel, Size { columns: 21, rows: 30 }, 3).contains("\x1b[1;27r"));
    }

    #[test]
    fn removing_restores_the_whole_screen_once() {
        let mut panel = Panel::default();
        draw(&mut panel, SIZE, 2);
        let mut out = Vec::new();
        panel.remove(&mut out);
        panel.remove(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "\x1b7\x1b[r\x1b8\x1b[J");
    }

    #[test]
    fn the_program_keeps_rows_for_its_output() {
        let room = |rows| Size { columns: 80, rows }.room();
        assert_eq!([0, 1, 2, 3, 5, 10, 24, 50].map(room), [0, 0, 0, 1, 3, 8, 18, 38]);
        assert_eq!(draw(&mut Panel::default(), Size { columns: 80, rows: 2 }, 5), "");
    }
}
