//! Places where tests make the process die or wait. Compiled to nothing in release builds.

/// Aborts the process at the n-th passing of `point` when `AFFERENT_ABORT_AT` is `point:n`, and waits there as long as the
/// file exists when `AFFERENT_STALL_AT` is `point:file`.
#[cfg(debug_assertions)]
pub(crate) fn point(point: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static ABORT: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static STALL: OnceLock<Option<(String, std::path::PathBuf)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let abort = ABORT.get_or_init(|| {
        let value = std::env::var("AFFERENT_ABORT_AT").ok()?;
        let (name, count) = value.rsplit_once(':')?;
        Some((name.to_string(), count.parse().ok()?))
    });
    if let Some((name, count)) = abort
        && name == point
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *count
    {
        std::process::abort();
    }
    let stall = STALL.get_or_init(|| {
        let value = std::env::var("AFFERENT_STALL_AT").ok()?;
        let (name, file) = value.split_once(':')?;
        Some((name.to_string(), file.into()))
    });
    while stall.as_ref().is_some_and(|(name, file)| name == point && file.exists()) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn point(_point: &str) {}
