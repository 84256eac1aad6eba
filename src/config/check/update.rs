//! `[update]`: what the settings mean.

use super::Checks;
use crate::config::Config;
use crate::update::config::{QUIET_S, TRIAL_S, WAIT_MAX_MIN};

impl Checks<'_> {
    pub(super) fn update(&mut self, config: &Config) {
        let Some(update) = &config.update else { return };
        let numbers = [
            ("trial_s", update.trial_s, TRIAL_S),
            ("quiet_s", update.quiet_s, QUIET_S),
            ("wait_max_min", update.wait_max_min, WAIT_MAX_MIN),
        ];
        for (key, found, allowed) in numbers {
            if !allowed.contains(&found) {
                let message = format!("`{key}` must be from {} to {}", allowed.start(), allowed.end());
                self.say(&format!("update.{key}"), message, "leave it out for the default");
            }
        }
        if update.reboot.first().is_none_or(String::is_empty) {
            let message = "`reboot` names no program".to_string();
            self.say("update.reboot", message, "leave it out for `systemctl reboot`");
        }
        if !update.releases.is_absolute() {
            let hint = "the launcher is given the very folder: write it from `/` on";
            self.say("update.releases", "this folder depends on where the program is started", hint);
        }
    }
}
