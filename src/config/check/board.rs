//! `[board]`: what the definition says, and the modes of ports.

use super::Checks;
use crate::config::{Config, Fault};

impl Checks<'_> {
    pub(super) fn board(&mut self, config: &Config) {
        let Some(board) = &config.board else { return };
        if board.definition.is_empty() {
            if !self.scene.places.is_spoilt("board") {
                let hint = "write `definition = \"cm4-carrier-1\"`, or leave [board] out";
                self.say("board", "this table does not say which board it is", hint);
            }
            return;
        }
        #[cfg(not(feature = "board"))]
        self.beside("board", "this program was built without the hardware of a box".to_owned(), "leave [board] out");
        #[cfg(feature = "board")]
        self.board_of(board);
    }

    #[cfg(feature = "board")]
    fn board_of(&mut self, board: &crate::board::Config) {
        use afferent_board::definition::{BUILTIN, Mode};
        let definition = match board.read() {
            Ok(definition) => definition,
            Err(faults) => {
                let known = BUILTIN.map(|(name, _)| name).join(", ");
                let hint = format!("the boards that are compiled in: {known}; any other is the path of a file");
                for fault in faults {
                    self.beside("board.definition", fault, &hint);
                }
                return;
            }
        };
        for (index, port) in board.ports.iter().enumerate() {
            let (name, mode) = (&port.name, &port.mode);
            let known = |words: Vec<&str>| if words.is_empty() { "none".to_owned() } else { words.join(", ") };
            let Some(found) = definition.ports.iter().find(|port| port.name.get_ref() == name) else {
                let names = definition.ports.iter().map(|port| port.name.get_ref().as_str()).collect();
                let hint = format!("the ports it has: {}", known(names));
                self.beside(&format!("board.port[{index}].name"), format!("this board has no port `{name}`"), &hint);
                continue;
            };
            let modes = found.modes.get_ref();
            if !Mode::of(mode).is_some_and(|mode| modes.contains_key(&mode)) {
                let hint = format!("write one of: {}", known(modes.keys().map(|mode| mode.word()).collect()));
                let message = format!("the port `{name}` cannot be `{mode}`");
                self.beside(&format!("board.port[{index}].mode"), message, &hint);
            }
        }
    }

    /// What is wrong with LEDs and buttons keeps no gateway from starting.
    fn beside(&mut self, path: &str, message: String, hint: &str) {
        let at = self.value(path);
        self.faults.push(Fault { hint: Some(hint.to_owned()), ..Fault::unusable(at, message) });
    }
}
