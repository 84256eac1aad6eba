//! `[worklist]`: what modalities that ask for their worklist are told.

use crate::clinical::ScheduledStep;
use crate::message::dicom::CharacterSets;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What modalities that ask for their worklist are told (C-FIND), from the imaging orders of `[[orders]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most entries one query is answered; those nearest to today are told.
    pub answers_max: u16,
    /// Character set of answers with characters that the query's own does not have, for example "ISO_IR 100"; left out,
    /// Latin-1 where it has them all, else UTF-8.
    pub character_set: Option<String>,
    /// Which station does what is ordered for a room, where orders name rooms only, for example
    /// [{ location = "ROOM 3", ae_title = "VIVID", modality = "US" }].
    pub rooms: Vec<Room>,
}

/// A room and its station.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Room {
    /// The location as orders name it (IPC-8), for example "ROOM 3".
    pub location: String,
    /// AE title of the station there, for example "VIVID".
    pub ae_title: String,
    /// Its modality, for example "US"; used where the order names none.
    pub modality: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config { answers_max: 100, character_set: None, rooms: Vec::new() }
    }
}

impl Config {
    /// The character set of the site.
    pub fn charset(&self) -> Option<CharacterSets> {
        CharacterSets::declared(self.character_set.as_deref()?)
    }

    /// A step with what the site says of its room where the order is silent.
    pub fn placed(&self, step: &ScheduledStep) -> ScheduledStep {
        let mut step = step.clone();
        if let Some(room) = self.rooms.iter().find(|room| !step.location.is_empty() && room.location == step.location) {
            if step.station_ae_titles.is_empty() {
                step.station_ae_titles.push(room.ae_title.clone());
            }
            if let (true, Some(modality)) = (step.modality.is_empty(), &room.modality) {
                step.modality.clone_from(modality);
            }
        }
        step
    }
}
