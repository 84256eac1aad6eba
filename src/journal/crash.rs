//! Places where tests make the process die. Compiled to nothing in release builds.

/// Aborts the process at the n-th passing of `point` when `AFFERENT_ABORT_AT` is `point:n`.
#[cfg(debug_assertions)]
pub(crate) fn point(point: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let wanted = WANTED.get_or_init(|| {
        let value = std::env::var("AFFERENT_ABORT_AT").ok()?;
        let (name, count) = value.rsplit_once(':')?;
        Some((name.to_string(), count.parse().ok()?))
    });
    if let Some((name, count)) = wanted
        && name == point
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *count
    {
        std::process::abort();
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn point(_point: &str) {}
