//! Log events of level ERROR that tests did not expect: each fails the test that finds it.

use std::sync::{Mutex, Once};

use tracing::{Event, Level, Subscriber, field::Visit};
use tracing_subscriber::{EnvFilter, Layer, layer::Context, layer::SubscriberExt, util::SubscriberInitExt};

static INSTALL: Once = Once::new();
static FOUND: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Collect;

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

impl<S: Subscriber> Layer<S> for Collect {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let target = event.metadata().target();
        if *event.metadata().level() == Level::ERROR && !target.starts_with("opentelemetry") {
            let mut text = Text(target.to_owned());
            event.record(&mut text);
            FOUND.lock().unwrap().push(text.0);
        }
    }
}

/// Collects from now on, once per process; `RUST_LOG` shows events as well.
pub fn collect() {
    INSTALL.call_once(|| {
        let shown = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
        let _ = tracing_subscriber::registry()
            .with(Collect)
            .with(tracing_subscriber::fmt::layer().with_test_writer().with_filter(shown))
            .try_init();
    });
}

/// Panics when any service of this process logged an ERROR.
pub fn assert_none() {
    let found = std::mem::take(&mut *FOUND.lock().unwrap());
    assert!(found.is_empty(), "services logged errors:\n{}", found.join("\n"));
}
