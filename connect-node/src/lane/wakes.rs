//! Wakes of lanes' writers, put off until a thread has put on the lanes what it has: outcomes that come together leave
//! together, and the writer does not run in between for each of them.

use std::{cell::RefCell, sync::Arc};

use tokio::sync::Notify;

thread_local! {
    /// Writers to wake at the end of [`together`]; `None` outside of it.
    static PUT_OFF: RefCell<Option<Vec<Arc<Notify>>>> = const { RefCell::new(None) };
}

/// Wakes the lanes that `work` puts something on when it is through, each once. It must not wait for a lane.
pub fn together<R>(work: impl FnOnce() -> R) -> R {
    PUT_OFF.with_borrow_mut(|put_off| {
        put_off.get_or_insert_default();
    });
    // Wakes whatever becomes of the work.
    let _wake = WakeAll;
    work()
}

struct WakeAll;

impl Drop for WakeAll {
    fn drop(&mut self) {
        for writer in PUT_OFF.take().into_iter().flatten() {
            writer.notify_one();
        }
    }
}

/// Wakes a writer, now or at the end of [`together`].
pub(super) fn wake(writer: &Arc<Notify>) {
    let is_put_off = PUT_OFF.with_borrow_mut(|put_off| match put_off {
        Some(waiting) => {
            if !waiting.iter().any(|other| Arc::ptr_eq(other, writer)) {
                waiting.push(writer.clone());
            }
            true
        }
        None => false,
    });
    if !is_put_off {
        writer.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_is_put_off_comes_once_at_the_end_and_not_before() {
        let (one, other) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let is_woken = |writer: &Notify| writer.notified().now_or_never().is_some();
        together(|| {
            for writer in [&one, &other, &one] {
                wake(writer);
            }
            assert!(!is_woken(&one));
        });
        assert!(is_woken(&one) && is_woken(&other));
        assert!(!is_woken(&one), "a second wake");
        wake(&one);
        assert!(is_woken(&one), "outside nothing is put off");
    }
}
