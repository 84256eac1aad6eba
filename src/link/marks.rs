//! How a serial port says that a character came damaged: the marks of `termios(3)`, `PARMRK`.
//!
//! | on the port | means |
//! |---|---|
//! | `FF 00 X` | X came with a parity or framing error |
//! | `FF 00 00` | a break, or a NUL with such an error |
//! | `FF FF` | a good FF |

const MARK: u8 = 0xFF;

/// What was heard on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// Good bytes.
    Good(&'a [u8]),
    /// One character that must not be used, and what happened to it; its bits, as far as they were heard.
    Damaged(&'static str, u8),
}

/// Reads marks in any split.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Marks(Place);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Plain,
    /// After a mark's FF.
    Marked,
    /// After FF 00: the damaged character comes next.
    Damage,
}

impl Marks {
    /// Tells `hear` what `bytes` say, in order.
    pub fn decode(&mut self, bytes: &[u8], mut hear: impl FnMut(Heard<'_>)) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            self.0 = match (self.0, byte) {
                (Place::Plain, MARK) => Place::Marked,
                (Place::Plain, _) => {
                    let many = after.iter().position(|&b| b == MARK).unwrap_or(after.len());
                    let start = bytes.len() - after.len() - 1;
                    hear(Heard::Good(bytes.get(start..=start + many).unwrap_or_default()));
                    rest = after.get(many..).unwrap_or_default();
                    Place::Plain
                }
                (Place::Marked, 0) => Place::Damage,
                (Place::Marked, MARK) => {
                    hear(Heard::Good(&[MARK]));
                    Place::Plain
                }
                (Place::Marked, _) => {
                    hear(Heard::Damaged("a mark of the port that means nothing", byte));
                    Place::Plain
                }
                (Place::Damage, 0) => {
                    hear(Heard::Damaged("a break on the line", 0));
                    Place::Plain
                }
                (Place::Damage, _) => {
                    hear(Heard::Damaged("a character with a parity or framing error", byte));
                    Place::Plain
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is heard, with good bytes one by one.
    fn heard(marks: &mut Marks, bytes: &[u8]) -> Vec<Result<u8, &'static str>> {
        let mut all = Vec::new();
        marks.decode(bytes, |heard| match heard {
            Heard::Good(bytes) => all.extend(bytes.iter().copied().map(Ok)),
            Heard::Damaged(how, _) => all.push(Err(how)),
        });
        all
    }

    #[test]
    fn marks_are_told_from_bytes() {
        let on_the_port = b"A\xFF\x00B\xFF\xFF\xFF\x00\x00C\x00\xFF\xFF\xFF\x00\xFFD\xFFE";
        let expected = [
            Ok(b'A'),
            Err("a character with a parity or framing error"),
            Ok(0xFF),
            Err("a break on the line"),
            Ok(b'C'),
            Ok(0),
            Ok(0xFF),
            Err("a character with a parity or framing error"),
            Ok(b'D'),
            Err("a mark of the port that means nothing"),
        ];
        assert_eq!(heard(&mut Marks::default(), on_the_port), expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_the_kernel_marks_is_heard_in_every_split(
            line in prop::collection::vec(prop_oneof![
                any::<u8>().prop_map(Ok), Just(Ok(MARK)), Just(Ok(0)), any::<u8>().prop_map(Err),
            ], 0..40),
            cuts in prop::collection::vec(1_usize..5, 1..10),
        ) {
            let mut on_the_port = Vec::new();
            for character in &line {
                match character {
                    Ok(MARK) => on_the_port.extend([MARK, MARK]),
                    Ok(good) => on_the_port.push(*good),
                    Err(bad) => on_the_port.extend([MARK, 0, *bad]),
                }
            }
            let expected: Vec<Result<u8, ()>> = line.iter().map(|c| c.map_err(drop)).collect();
            let (mut marks, mut all, mut rest) = (Marks::default(), Vec::new(), on_the_port.as_slice());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (part, after) = rest.split_at((*cut).min(rest.len()));
                all.extend(heard(&mut marks, part).into_iter().map(|heard| heard.map_err(drop)));
                rest = after;
            }
            prop_assert_eq!(all, expected);
            prop_assert_eq!(marks, Marks::default());
        }
    }
}
