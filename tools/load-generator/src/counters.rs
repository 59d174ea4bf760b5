//! Counters of controllers, read from their `/metrics` before and after.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use url::Url;

use crate::target;

/// An answer is smaller.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

/// Counters by name: all series of all addresses added up.
pub type Counters = BTreeMap<String, u64>;

/// Reads the counters of all these addresses.
pub async fn read(urls: &[String]) -> Result<Counters> {
    let mut sums = Counters::new();
    for url in urls {
        let text = timeout(PATIENCE, get(url)).await.with_context(|| format!("{url} does not answer"))??;
        add(&text, &mut sums);
    }
    Ok(sums)
}

/// How much each has grown; those that have not are left out.
pub fn growth(before: &Counters, after: Counters) -> Counters {
    let grown = after.into_iter().map(|(name, count)| {
        let since = count.saturating_sub(before.get(&name).copied().unwrap_or(0));
        (name, since)
    });
    grown.filter(|(_, since)| *since > 0).collect()
}

async fn get(url: &str) -> Result<String> {
    let parsed = Url::parse(url).with_context(|| format!("{url:?} is no address"))?;
    let (Some(host), "http") = (parsed.host_str(), parsed.scheme()) else {
        bail!("{url:?}: write http://127.0.0.1:9090/metrics");
    };
    let host = format!("{host}:{}", parsed.port().unwrap_or(80));
    let mut stream = TcpStream::connect(target::loopback(&host)?).await.with_context(|| url.to_owned())?;
    let request = format!("GET {} HTTP/1.0\r\nHost: {host}\r\n\r\n", parsed.path());
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await.with_context(|| url.to_owned())?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        _ => bail!("{url} answered {:?}", answer.lines().next().unwrap_or_default()),
    }
}

/// Lines of the text format of Prometheus: `# TYPE name counter`, then `name{labels} value`.
fn add(text: &str, sums: &mut Counters) {
    let mut counter = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            counter = rest.strip_suffix(" counter").unwrap_or_default();
        } else if let Some((series, value)) = line.rsplit_once(' ')
            && !counter.is_empty()
            && series.split('{').next() == Some(counter)
            && let Ok(value) = value.parse::<u64>()
        {
            *sums.entry(counter.to_owned()).or_default() += value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_a_counter_are_added_up() {
        let text = "# HELP a x\n# TYPE a counter\na{b=\"c d\"} 3\na{b=\"e\"} 4\n# TYPE g gauge\ng 5\n";
        let mut before = Counters::new();
        add(text, &mut before);
        assert_eq!(before, Counters::from([("a".to_owned(), 7)]));
        let mut after = before.clone();
        add("# TYPE a counter\na 2\n# TYPE n counter\nn 0\n", &mut after);
        assert_eq!(growth(&before, after), Counters::from([("a".to_owned(), 2)]));
    }
}
