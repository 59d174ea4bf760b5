//! The page in a real browser: three users on three nodes, pushes from the built program, a node that stops, a connection that
//! is cut.

use std::process::Output;

use anyhow::{Context, Result, ensure};
use fantoccini::{Client, Locator};
use roomcast_testkit::{Cluster, browser::Driver, eventually, otlp::Receiver, outcome};
use serde_json::json;

fn biz_client(push_manager: &str, arguments: &[&str]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_biz-client"))
        .args(["--push-manager", push_manager])
        .args(arguments)
        .output()
        .expect("the program was built with this test")
}

async fn texts(page: &Client) -> Vec<String> {
    let Ok(found) = page.find_all(Locator::Css("#messages .message .data")).await else { return Vec::new() };
    let mut texts = Vec::new();
    for element in found {
        texts.push(element.text().await.unwrap_or_default());
    }
    texts
}

async fn received(page: &Client, text: &str) {
    eventually(&format!("the page shows {text:?}"), async || {
        texts(page).await.iter().any(|shown| shown == text).then_some(())
    })
    .await;
}

async fn connected_to(page: &Client, nodes: &[&str]) {
    eventually("the page is connected", async || {
        let state = page.find(Locator::Id("state")).await.ok()?.attr("data-state").await.ok()??;
        let node = page.find(Locator::Id("node")).await.ok()?.text().await.ok()?;
        (state == "connected" && nodes.iter().any(|name| node.contains(name))).then_some(())
    })
    .await;
    eventually("the room is joined", async || {
        let found =
            page.find_all(Locator::Css(".room[data-room='room-001'][data-state='joined']")).await.ok()?;
        (!found.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_users_in_browsers_receive_and_one_comes_back_on_another_node() -> Result<()> {
    let mut cluster = Cluster::builder().nodes(3).start().await;
    let push_manager = cluster.push_manager(0).grpc_address().to_string();
    let driver = Driver::start().await?;
    let mut pages = Vec::new();
    for (index, name) in ["Alice", "Bob", "Charlie"].into_iter().enumerate() {
        let page = driver.window().await?;
        let address = cluster.node(index).http_address();
        let user = index + 1;
        page.goto(&format!("http://{address}/?connect=1&user=user-00{user}&name={name}&room=room-001"))
            .await?;
        connected_to(&page, &[&format!("connect-node-{user}")]).await;
        pages.push(page);
    }

    let output = biz_client(&push_manager, &["push", "room", "room-001", "Hello <b>everyone</b>!"]);
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for page in &pages {
        received(page, "Hello <b>everyone</b>!").await;
    }
    let flags = [
        "--action",
        "push-to-user",
        "--user",
        "user-001",
        "--message",
        "Only Alice",
        "--type",
        "TRANSLATION",
    ];
    ensure!(biz_client(&push_manager, &flags).status.success());
    received(&pages[0], "Only Alice").await;

    cluster.stop_node(0).await;
    connected_to(&pages[0], &["connect-node-2", "connect-node-3"]).await;
    let output = biz_client(&push_manager, &["push", "broadcast", "Back again", "--type", "SYSTEM"]);
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for page in &pages {
        received(page, "Back again").await;
    }
    ensure!(!texts(&pages[1]).await.iter().any(|text| text == "Only Alice"), "Bob saw Alice's message");

    for page in pages {
        page.close().await.context("the browser ends")?;
    }
    driver.stop().await;
    cluster.finish().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_acknowledged_on_receipt_or_by_its_button_and_shows_age_and_trace() -> Result<()> {
    let traces = Receiver::start().await;
    let endpoint = format!("telemetry.otlp_endpoint={}", traces.endpoint());
    let cluster = Cluster::builder().nodes(1).set(&endpoint).start().await;
    let driver = Driver::start().await?;
    let page = driver.window().await?;
    let address = cluster.node(0).http_address();
    page.goto(&format!("http://{address}/?connect=1&user=user-001&room=room-001")).await?;
    connected_to(&page, &["connect-node-1"]).await;
    let api = cluster.api(0);
    let options = json!({"ack": true, "wait": "ACKED", "wait_ms": 20_000});
    let push = async || {
        let body = json!({"content": {"data": "confirm"}, "options": options});
        let (_, reply) = api.post("/v1/push/room/room-001", body).await;
        outcome(&reply, "ACKED")
    };
    ensure!(push().await == 1, "on receipt");

    page.find(Locator::Id("by-hand")).await?.click().await?;
    let press = async {
        let button = eventually("the button is there", async || {
            page.find(Locator::Css(".message .ack button")).await.ok()
        })
        .await;
        button.click().await
    };
    let (acknowledged, pressed) = tokio::join!(push(), press);
    pressed?;
    ensure!(acknowledged == 1, "by hand");
    eventually("both say that they are acknowledged", async || {
        let sent = page.find_all(Locator::Css(".message .ack[data-state='sent']")).await.ok()?;
        (sent.len() == 2).then_some(())
    })
    .await;
    let shown = page.find(Locator::Css(".message .delay")).await?.text().await?;
    ensure!(shown.starts_with('+'), "an age by the node's clock: {shown}");
    let title = page.find(Locator::Css(".message .trace")).await?.attr("title").await?.unwrap_or_default();
    page.close().await?;
    driver.stop().await;
    cluster.finish().await;
    eventually("the page's report is the end of the trace that it shows", async || {
        let spans = traces.spans();
        spans.iter().any(|span| span.name == "receive" && title.contains(&span.trace_id)).then_some(())
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_works_from_a_file() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).start().await;
    let driver = Driver::start().await?;
    let page = driver.window().await?;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/client.html");
    page.goto(&format!("file://{file}?connect=1&url={}", cluster.ws(0))).await?;
    connected_to(&page, &["connect-node-1"]).await;
    cluster.api(0).push_room("room-001", "to a file").await;
    received(&page, "to a file").await;
    page.close().await?;
    driver.stop().await;
    cluster.finish().await;
    Ok(())
}

async fn shown(page: &Client, what: &str, selector: &str, is_it: impl Fn(&str) -> bool) {
    eventually(what, async || {
        let text = page.find(Locator::Css(selector)).await.ok()?.text().await.ok()?;
        is_it(&text).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_says_what_is_unusual() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).start().await;
    let driver = Driver::start().await?;
    let page = driver.window().await?;
    let base = format!("http://{}/", cluster.node(0).http_address());

    page.goto(&format!("{base}?connect=1&url=ws://127.0.0.1:9/ws")).await?;
    let is_folded =
        |text: &str| text.contains("ws://127.0.0.1:9/ws did not answer") && text.contains(" times");
    shown(&page, "an address that does not answer is named once, with a count", "#errors", is_folded).await;
    ensure!(page.find_all(Locator::Css("#errors li")).await?.len() == 1);

    page.goto(&format!("{base}?connect=1")).await?;
    connected_to(&page, &["connect-node-1"]).await;
    page.refresh().await?;
    connected_to(&page, &["connect-node-1"]).await;

    let push = json!({"content": {"type": "TEXT", "data": "", "timestamp": 1_234_567_890}});
    cluster.api(0).post("/v1/push/room/room-001", push).await;
    shown(&page, "an empty message is one", "#messages .message .data", |text| text == "(empty)").await;
    shown(&page, "a time of another day", "#messages .sent", |text| text.starts_with("sent 2009-02-1")).await;

    page.close().await?;
    driver.stop().await;
    cluster.finish().await;
    Ok(())
}

async fn markers(page: &Client, kind: &str) -> Vec<String> {
    let selector = format!("#messages .marker[data-kind='{kind}']");
    let Ok(found) = page.find_all(Locator::Css(&selector)).await else { return Vec::new() };
    let mut texts = Vec::new();
    for element in found {
        texts.push(element.text().await.unwrap_or_default());
    }
    texts
}

/// Presses the button that breaks the connection, and waits until the page has noticed.
async fn cut(page: &Client) -> Result<()> {
    page.find(Locator::Id("cut")).await?.click().await?;
    eventually("the page is away", async || {
        let state = page.find(Locator::Id("state")).await.ok()?.attr("data-state").await.ok()??;
        (state == "reconnecting").then_some(())
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_is_cut_or_loaded_again_gets_what_it_missed_once_and_in_order() -> Result<()> {
    let cluster = Cluster::builder().nodes(2).start().await;
    let driver = Driver::start().await?;
    let page = driver.window().await?;
    let address = format!("http://{}/?connect=1&user=user-001&room=room-001", cluster.node(0).http_address());
    page.goto(&address).await?;
    connected_to(&page, &["connect-node-1"]).await;
    let api = cluster.api(0);
    api.push_room("room-001", "one").await;
    received(&page, "one").await;
    shown(&page, "where the page stands", ".room .offset", |text| text == "#1").await;

    cut(&page).await?;
    api.push_room("room-001", "two").await;
    api.push_user("user-001", "mine").await;
    api.push_room("room-001", "three").await;
    connected_to(&page, &["connect-node-1", "connect-node-2"]).await;
    received(&page, "three").await;
    received(&page, "mine").await;
    let mut seen = texts(&page).await;
    let of_room: Vec<_> = seen.extract_if(.., |text| text != "mine").collect();
    ensure!(of_room == ["one", "two", "three"] && seen == ["mine"], "{of_room:?} {seen:?}");
    let recovered = markers(&page, "recovered").await;
    ensure!(recovered.iter().any(|text| text.contains("Recovered room-001 from #")), "{recovered:?}");
    shown(&page, "where the page stands", ".room .offset", |text| text == "#3").await;

    page.goto("about:blank").await?;
    api.push_room("room-001", "four").await;
    page.goto(&address).await?;
    received(&page, "four").await;
    ensure!(texts(&page).await == ["four"], "{:?}", texts(&page).await);
    ensure!(markers(&page, "gap").await.is_empty(), "{:?}", markers(&page, "gap").await);

    page.close().await?;
    driver.stop().await;
    cluster.finish().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_says_where_messages_may_be_missing() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).start().await;
    let controller = cluster.controller(0).grpc_address().to_string();
    let create = ["--controller", &controller, "room", "create", "room-001", "--log", "none"];
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_biz-client")).args(create).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let driver = Driver::start().await?;
    let page = driver.window().await?;
    page.goto(&format!("http://{}/?connect=1&room=room-001", cluster.node(0).http_address())).await?;
    connected_to(&page, &["connect-node-1"]).await;
    cut(&page).await?;
    cluster.api(0).push_room("room-001", "missed").await;
    connected_to(&page, &["connect-node-1"]).await;
    cluster.api(0).push_room("room-001", "seen").await;
    received(&page, "seen").await;
    let gaps = markers(&page, "gap").await;
    ensure!(
        gaps.len() == 1 && gaps[0].contains("Messages of room-001 may be missing: there was no log"),
        "{gaps:?}"
    );
    shown(&page, "the gap is among the errors, too", "#errors", |text| text.contains("NO_LOG")).await;
    ensure!(texts(&page).await == ["seen"]);
    page.close().await?;
    driver.stop().await;
    cluster.finish().await;
    Ok(())
}

/// Notes what each socket of the page sends: its sub-protocol, and whether it is text.
const NOTE_WHAT_IS_SENT: &str = "
    const { send } = WebSocket.prototype;
    window.sent = [];
    WebSocket.prototype.send = function (data) {
        window.sent.push(`${this.protocol} ${typeof data === 'string' ? 'text' : 'bytes'}`);
        return send.call(this, data);
    };";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_speaks_protobuf_receives_acknowledges_and_comes_back() -> Result<()> {
    let cluster = Cluster::builder().nodes(2).start().await;
    let driver = Driver::start().await?;
    let page = driver.window().await?;
    let node = cluster.node(0).http_address();
    page.goto(&format!("http://{node}/?user=user-001&room=room-001&protocol=proto")).await?;
    page.execute(NOTE_WHAT_IS_SENT, vec![]).await?;
    page.find(Locator::Id("connect")).await?.click().await?;
    connected_to(&page, &["connect-node-1"]).await;

    let api = cluster.api(0);
    let push = async |content| {
        let options = json!({"ack": true, "wait": "ACKED", "wait_ms": 20_000});
        let (_, reply) =
            api.post("/v1/push/room/room-001", json!({"content": content, "options": options})).await;
        outcome(&reply, "ACKED")
    };
    ensure!(push(json!({"data": "Grüße 😀"})).await == 1, "a text is acknowledged");
    ensure!(push(json!({"type": "STATE", "data": r#"{"on":true}"#})).await == 1, "so is JSON");
    ensure!(push(json!({"data_base64": "AP+A"})).await == 1, "so are bytes");
    received(&page, "Grüße 😀").await;
    received(&page, r#"{"on":true}"#).await;
    shown(&page, "bytes", "#messages .hex", |text| text == "00 ff 80").await;

    cut(&page).await?;
    api.push_room("room-001", "missed").await;
    api.push_user("user-001", "mine").await;
    connected_to(&page, &["connect-node-1", "connect-node-2"]).await;
    received(&page, "missed").await;
    received(&page, "mine").await;
    let recovered = markers(&page, "recovered").await;
    ensure!(recovered.iter().any(|text| text.contains("Recovered room-001 from #")), "{recovered:?}");
    ensure!(markers(&page, "gap").await.is_empty(), "{:?}", markers(&page, "gap").await);
    let errors = page.find(Locator::Id("errors")).await?.text().await?;
    ensure!(!errors.contains("BAD_"), "neither side refused a frame: {errors}");

    let sent = page.execute("return [...new Set(window.sent)]", vec![]).await?;
    ensure!(sent == json!(["pubsub.proto.v1 bytes"]), "{sent}");
    page.close().await?;
    driver.stop().await;
    cluster.finish().await;
    Ok(())
}
