//! Ways to break a push on purpose, so that tests can see that nothing is lost. Without the feature of this name nothing is
//! ever broken, and nothing is asked.

#[cfg(feature = "failpoints")]
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// The failpoints of one push-manager.
#[derive(Debug, Clone, Default)]
pub struct Failpoints {
    #[cfg(feature = "failpoints")]
    hangs: Arc<AtomicBool>,
    #[cfg(feature = "failpoints")]
    hanging: Arc<AtomicU64>,
}

#[cfg(feature = "failpoints")]
impl Failpoints {
    /// From now on pushes go no further than to what keeps them, until they are given up: as when the process is killed there.
    pub fn hang_when_kept(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::SeqCst);
    }

    /// Pushes that hang there, or did.
    pub fn hanging(&self) -> u64 {
        self.hanging.load(Ordering::SeqCst)
    }

    pub(crate) async fn kept(&self) {
        if self.hangs.load(Ordering::SeqCst) {
            self.hanging.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(feature = "failpoints"))]
#[allow(clippy::unused_self, clippy::unused_async, reason = "as with the feature")]
impl Failpoints {
    pub(crate) async fn kept(&self) {}
}
