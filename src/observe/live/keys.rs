//! [`Key`]: the meaning of a key press to the view.

/// A key that the view knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Freeze,
    Up,
    Down,
    /// A key with which the terminal sends a signal, which the view must do in its place.
    Control(Control),
}

/// A key of the terminal that stands for a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-\.
    Quit,
    /// Ctrl-Z.
    Suspend,
}

/// The keys in bytes read from the terminal. `control` identifies the bytes that stand for signals, which the user may
/// have changed with stty. Other bytes, and sequences that were cut in two, are ignored.
pub(super) fn keys(mut bytes: &[u8], control: impl Fn(u8) -> Option<Control>) -> Vec<Key> {
    let mut keys = Vec::new();
    while let [first, rest @ ..] = bytes {
        let (key, rest) = match (first, rest) {
            (0x1b, [b'[' | b'O', b'A', rest @ ..]) => (Some(Key::Up), rest),
            (0x1b, [b'[' | b'O', b'B', rest @ ..]) => (Some(Key::Down), rest),
            // Another sequence, no part of which is a key.
            (0x1b, [b'[' | b'O', rest @ ..]) => {
                let end = rest.iter().position(|byte| (0x40..=0x7e).contains(byte));
                (None, rest.get(end.map_or(rest.len(), |end| end + 1)..).unwrap_or_default())
            }
            (&byte, rest) => {
                let key = match byte {
                    b'q' | b'Q' => Some(Key::Quit),
                    b'p' | b'P' | b' ' => Some(Key::Freeze),
                    b'k' => Some(Key::Up),
                    b'j' => Some(Key::Down),
                    byte => control(byte).map(Key::Control),
                };
                (key, rest)
            }
        };
        keys.extend(key);
        bytes = rest;
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<Key> {
        keys(bytes, |byte| (byte == 3).then_some(Control::Interrupt))
    }

    #[test]
    fn letters_arrows_and_control_keys_are_known() {
        assert_eq!(read(b"q"), [Key::Quit]);
        assert_eq!(read(b"jk\x1b[A\x1bOB"), [Key::Down, Key::Up, Key::Up, Key::Down]);
        assert_eq!(read(b"p \x03"), [Key::Freeze, Key::Freeze, Key::Control(Control::Interrupt)]);
    }

    #[test]
    fn sequences_of_other_keys_are_ignored() {
        assert_eq!(read(b"x\x1b[3~\x1b[1;5qj"), [Key::Down]);
        assert_eq!(read(b"\x1b"), []);
        assert_eq!(read(b"\x1b["), []);
    }
}
