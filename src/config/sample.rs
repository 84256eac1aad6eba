//! The commented sample file: every setting with its sentence and its default.
//!
//! The sentences are the doc comments of the settings themselves. `UPDATE_GOLDEN=1 cargo test --lib config::sample`
//! writes `sample.toml` anew after a setting was added or changed; without it the test fails when the two differ.

/// The sample, as `afferent config sample` prints it. `#key = value` without a blank after the `#` is a setting that
/// has no default, shown with an example.
pub const SAMPLE: &str = include_str!("sample.toml");

#[cfg(test)]
mod tests;
