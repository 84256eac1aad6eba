//! An instrument that leaves files in a folder, as its computer does on a share: at once, slowly, half and then the rest, or
//! under another name until it is done.

use super::random::Random;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Pieces a slow file is written in, and the pause after each.
const PIECES: usize = 20;
const PIECE_PAUSE: Duration = Duration::from_millis(50);
/// How long a half-written file rests. Less than the gateway's `stable_ms`: nobody can tell a longer rest from the end.
const HALF_PAUSE: Duration = Duration::from_secs(1);

/// How a file comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manner {
    /// Piece by piece, with pauses.
    Slow,
    /// Half of it; then nothing for a while; then the rest.
    Half,
    /// Under a name that ends in `.tmp`, and renamed when it is done.
    Renamed,
    /// Written a second time, the same bytes under the same name.
    Twice,
}

impl Manner {
    /// Every manner by the name it has on the command line.
    pub const NAMES: [(&str, Manner); 4] =
        [("slow", Manner::Slow), ("half", Manner::Half), ("renamed", Manner::Renamed), ("twice", Manner::Twice)];
}

/// Manners with a probability each, such as `slow:0.3,half`, or `all`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manners(Vec<(Manner, f64)>);

impl FromStr for Manners {
    type Err = String;

    fn from_str(text: &str) -> Result<Manners, String> {
        if text == "all" {
            return Ok(Manners(Manner::NAMES.iter().map(|(_, manner)| (*manner, 0.25)).collect()));
        }
        let one = |part: &str| {
            let (name, chance) = part.split_once(':').unwrap_or((part, "1"));
            let manner = Manner::NAMES.iter().find(|(known, _)| *known == name.trim()).map(|(_, manner)| *manner);
            let chance = chance.parse().ok().filter(|chance| (0.0..=1.0).contains(chance));
            manner
                .zip(chance)
                .ok_or(format!("`{part}` is none of slow, half, renamed and twice with a share from 0 to 1"))
        };
        text.split(',').filter(|part| !part.trim().is_empty()).map(one).collect::<Result<_, _>>().map(Manners)
    }
}

/// What to leave where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder.
    pub folder: PathBuf,
    /// Names and contents, one after the other and again from the first.
    pub files: Vec<(String, Vec<u8>)>,
    /// How many files in all.
    pub count: u64,
    /// How they come to be.
    pub manners: Manners,
    /// Same seed, same manners.
    pub seed: u64,
    /// Shrinks every pause.
    pub time_scale: f64,
}

/// What was left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Files.
    pub files: u64,
    /// Of these, by manner.
    pub manners: BTreeMap<Manner, u64>,
}

/// Leaves the files. Each has a number before its name, so that none takes the place of another. Blocks.
///
/// # Errors
/// One cannot be written.
pub fn run(settings: &Settings) -> io::Result<Summary> {
    let mut random = Random::new(settings.seed);
    let mut summary = Summary::default();
    for (number, (name, bytes)) in (1..=settings.count).zip(settings.files.iter().cycle()) {
        let drawn = settings.manners.0.iter().find(|(_, chance)| random.chance(*chance)).map(|(manner, _)| *manner);
        let path = settings.folder.join(format!("{number:06}-{name}"));
        let pause = |time: Duration| std::thread::sleep(time.mul_f64(settings.time_scale));
        match drawn {
            Some(Manner::Slow) => {
                let mut file = File::create(&path)?;
                for piece in bytes.chunks(bytes.len().div_ceil(PIECES).max(1)) {
                    file.write_all(piece)?;
                    pause(PIECE_PAUSE);
                }
            }
            Some(Manner::Half) => {
                let (first, rest) = bytes.split_at(bytes.len() / 2);
                std::fs::write(&path, first)?;
                pause(HALF_PAUSE);
                OpenOptions::new().append(true).open(&path)?.write_all(rest)?;
            }
            Some(Manner::Renamed) => {
                let before = settings.folder.join(format!("{number:06}-{name}.tmp"));
                std::fs::write(&before, bytes)?;
                pause(PIECE_PAUSE);
                std::fs::rename(&before, &path)?;
            }
            Some(Manner::Twice) => {
                std::fs::write(&path, bytes)?;
                pause(HALF_PAUSE);
                std::fs::write(&path, bytes)?;
            }
            None => std::fs::write(&path, bytes)?,
        }
        summary.files += 1;
        if let Some(manner) = drawn {
            *summary.manners.entry(manner).or_default() += 1;
        }
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_whole_in_the_end_whatever_its_manner() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            folder: folder.path().to_path_buf(),
            files: vec![("one.csv".into(), b"a;b\n1;2\n".to_vec()), ("two.csv".into(), b"c\n".to_vec())],
            count: 40,
            manners: "all".parse().unwrap(),
            seed: 1,
            time_scale: 0.0,
        };
        let summary = run(&settings).unwrap();
        assert_eq!((summary.files, summary.manners.len()), (40, 4), "{summary:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 40);
        assert_eq!(std::fs::read(folder.path().join("000039-one.csv")).unwrap(), b"a;b\n1;2\n");
        assert_eq!(run(&settings).unwrap(), summary, "a seed names what happens");
    }

    #[test]
    fn manners_are_read() {
        assert_eq!(
            "slow:0.5, half".parse::<Manners>().map(|m| m.0),
            Ok(vec![(Manner::Slow, 0.5), (Manner::Half, 1.0)])
        );
        assert!("fast".parse::<Manners>().is_err() && "slow:2".parse::<Manners>().is_err());
    }
}
