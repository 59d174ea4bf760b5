//! Spans of one service, joined across tiers by the W3C `traceparent`.

use std::time::SystemTime;

use opentelemetry::{
    Context, KeyValue,
    trace::{
        Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags,
        TraceId, TraceState, Tracer, TracerProvider,
    },
};
use opentelemetry_otlp::{Protocol, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SamplingDecision, SamplingResult, SdkTracer, SdkTracerProvider, ShouldSample},
};

use crate::config::{self, OtlpProtocol};

/// A span with this attribute is kept, whatever its parent and the ratio say. The name is OpenTracing's.
const KEPT: &str = "sampling.priority";

/// Makes spans, or nothing at all when no receiver is configured.
#[derive(Clone, Default)]
pub struct Tracing(Option<Exporting>);

#[derive(Clone)]
struct Exporting {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Tracing {
    /// Exports to `otlp_endpoint`; off when it is empty. A receiver that is away costs spans, never a push.
    pub fn new(service: &'static str, instance: &str, config: &config::Telemetry) -> Self {
        if config.otlp_endpoint.is_empty() {
            return Self(None);
        }
        let exporter = match exporter(config) {
            Ok(exporter) => exporter,
            Err(error) => {
                tracing::error!(%error, endpoint = config.otlp_endpoint, "traces are off");
                return Self(None);
            }
        };
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(KeepOr(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
                config.sample_ratio,
            )))))
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("roomcast");
        Self(Some(Exporting { provider, tracer }))
    }

    /// Starts a span; `parent` is a `traceparent`, empty for none. When this service exports nothing, or the trace is
    /// not sampled, the span is empty and hands a sampled parent on unchanged.
    pub fn start(&self, name: &'static str, kind: SpanKind, parent: &str) -> Span {
        self.start_at(name, kind, parent, None)
    }

    /// As [`Tracing::start`], with the time it began.
    pub fn start_at(&self, name: &'static str, kind: SpanKind, parent: &str, at: Option<SystemTime>) -> Span {
        self.build(name, kind, parent, at, Vec::new())
    }

    /// Starts a span of a trace that is exported though it was not sampled, with the time it began. It joins the trace
    /// of `parent`, also where that is not sampled.
    pub fn start_kept(&self, name: &'static str, kind: SpanKind, parent: &str, at: SystemTime) -> Span {
        self.build(name, kind, parent, Some(at), vec![KeyValue::new(KEPT, 1)])
    }

    /// Whether spans are exported at all.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    fn build(
        &self,
        name: &'static str,
        kind: SpanKind,
        parent: &str,
        at: Option<SystemTime>,
        attributes: Vec<KeyValue>,
    ) -> Span {
        let remote = parse(parent);
        let Some(exporting) = &self.0 else {
            let passed_on = remote.filter(SpanContext::is_sampled).map(|_| parent.to_owned());
            return Span { own: None, passed_on };
        };
        let mut builder = SpanBuilder::from_name(name).with_kind(kind).with_attributes(attributes);
        if let Some(at) = at {
            builder = builder.with_start_time(at);
        }
        let context = match remote {
            Some(remote) => Context::new().with_remote_span_context(remote),
            None => Context::new(),
        };
        let span = exporting.tracer.build_with_context(builder, &context);
        Span { own: span.span_context().is_sampled().then(|| Box::new(span)), passed_on: None }
    }

    /// Sends what waits. Blocks.
    pub fn flush(&self) {
        if let Some(exporting) = &self.0
            && let Err(error) = exporting.provider.force_flush()
        {
            tracing::warn!(%error, "some traces were not sent");
        }
    }
}

/// Keeps what is marked as [`KEPT`], and leaves the rest to another sampler.
#[derive(Debug, Clone)]
struct KeepOr(Sampler);

impl ShouldSample for KeepOr {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let mut result = self.0.should_sample(parent, trace_id, name, kind, attributes, links);
        if attributes.iter().any(|attribute| attribute.key.as_str() == KEPT) {
            result.decision = SamplingDecision::RecordAndSample;
        }
        result
    }
}

fn exporter(
    config: &config::Telemetry,
) -> Result<opentelemetry_otlp::SpanExporter, opentelemetry_otlp::ExporterBuildError> {
    let endpoint = config.otlp_endpoint.trim_end_matches('/');
    let is_http = match config.otlp_protocol {
        OtlpProtocol::Http => true,
        OtlpProtocol::Grpc => false,
        OtlpProtocol::Auto => endpoint.ends_with(":4318"),
    };
    let builder = opentelemetry_otlp::SpanExporter::builder();
    if is_http {
        let builder = builder.with_http().with_protocol(Protocol::HttpBinary);
        return builder.with_endpoint(format!("{endpoint}/v1/traces")).build();
    }
    builder.with_tonic().with_endpoint(endpoint).build()
}

/// One span of this service; ends when dropped.
#[derive(Default)]
pub struct Span {
    /// Boxed: most pushes have none and carry the place for it along.
    own: Option<Box<opentelemetry_sdk::trace::Span>>,
    passed_on: Option<String>,
}

impl Span {
    /// Whether setting attributes has any use.
    pub fn is_recording(&self) -> bool {
        self.own.is_some()
    }

    /// What the next hop takes as its parent; empty when the trace is not sampled.
    pub fn traceparent(&self) -> String {
        match (&self.own, &self.passed_on) {
            (Some(own), _) => format_context(own.span_context()),
            (None, Some(passed_on)) => passed_on.clone(),
            (None, None) => String::new(),
        }
    }

    /// Adds an attribute; ids and counts only, never payloads.
    pub fn set(&mut self, key: impl Into<opentelemetry::Key>, value: impl Into<opentelemetry::Value>) {
        if let Some(own) = &mut self.own {
            own.set_attribute(KeyValue::new(key, value.into()));
        }
    }

    /// Ends the span at this time instead of now.
    pub fn end_at(mut self, at: SystemTime) {
        if let Some(own) = &mut self.own {
            own.end_with_timestamp(at);
        }
    }

    /// Marks the span as failed.
    pub fn fail(&mut self, why: impl Into<String>) {
        if let Some(own) = &mut self.own {
            own.set_status(Status::error(why.into()));
        }
    }
}

fn format_context(context: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags())
}

/// Reads `00-{32 hex}-{16 hex}-{2 hex}`; anything else is no parent (W3C Trace Context, section 3.2).
fn parse(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version.len() != 2 || version == "ff" || trace.len() != 32 || span.len() != 16 || flags.len() != 2 {
        return None;
    }
    if version == "00" && parts.next().is_some() {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::NONE,
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_reads_back_as_written() {
        assert_eq!(format_context(&parse(SAMPLED).unwrap()), SAMPLED);
    }

    #[test]
    fn nonsense_is_no_parent() {
        for bad in
            ["", "00", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "ff-0-0-0", "häh-?-?-?"]
        {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn without_a_receiver_a_sampled_trace_is_passed_on() {
        let off = Tracing::default();
        assert_eq!(off.start("push", SpanKind::Server, SAMPLED).traceparent(), SAMPLED);
        assert_eq!(off.start("push", SpanKind::Server, &SAMPLED.replace("-01", "-00")).traceparent(), "");
        assert_eq!(off.start("push", SpanKind::Server, "").traceparent(), "");
    }
}
