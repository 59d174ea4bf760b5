//! An etcd in this process that misbehaves on demand, as version 3.4.23 may: a few keys, leases and watches of
//! version 3 of its interface. Leases do not run out by themselves.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use etcd_client::proto::*;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status, Streaming, transport::Server};

type Answer<T> = Result<Response<T>, Status>;
type Stream<T> = BoxStream<'static, Result<T, Status>>;

/// How keep-alives are answered.
#[derive(Clone, Copy, PartialEq)]
pub enum KeepAlives {
    /// With time, or with none when the lease is gone.
    Honest,
    /// With time, whatever became of the lease.
    AlwaysAlive,
    /// With time at first and then, on the same stream, with none.
    OnceAlive,
    /// With the time of another lease.
    OfAnother,
}

#[derive(Clone)]
pub struct Stub {
    address: String,
    state: Arc<Mutex<State>>,
    _server: Arc<Mutex<Option<AbortOnDropHandle<()>>>>,
}

struct State {
    revision: i64,
    keys: BTreeMap<Vec<u8>, PbKeyValue>,
    leases: HashSet<i64>,
    granted: i64,
    watchers: Vec<mpsc::Sender<Result<PbWatchResponse, Status>>>,
    keep_alives: KeepAlives,
    loses_events: bool,
}

impl Stub {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State {
            revision: 1,
            keys: BTreeMap::new(),
            leases: HashSet::new(),
            granted: 0,
            watchers: Vec::new(),
            keep_alives: KeepAlives::Honest,
            loses_events: false,
        };
        let stub = Self {
            address: listener.local_addr().unwrap().to_string(),
            state: Arc::new(Mutex::new(state)),
            _server: Arc::default(),
        };
        // Without the handle: the services must not keep their own server alive.
        let service = Self { _server: Arc::default(), ..stub.clone() };
        let server = Server::builder()
            .add_service(PbKvServer::new(service.clone()))
            .add_service(PbLeaseServer::new(service.clone()))
            .add_service(PbWatchServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move { server.await.unwrap() });
        *stub._server.lock().unwrap() = Some(AbortOnDropHandle::new(task));
        stub
    }

    pub fn url(&self) -> String {
        format!("etcd://{}", self.address)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn answer_keep_alives(&self, keep_alives: KeepAlives) {
        self.state().keep_alives = keep_alives;
    }

    /// From now on no watcher hears of anything.
    pub fn lose_events(&self) {
        self.state().loses_events = true;
    }

    /// Forgets all leases and leaves their keys.
    pub fn forget_leases(&self) {
        self.state().leases.clear();
    }

    /// Forgets all leases with their keys.
    pub fn revoke_all(&self) {
        let mut state = self.state();
        state.leases.clear();
        state.keys.clear();
    }

    /// Cancels all watches, as etcd does with those that are behind a compaction.
    pub fn compact(&self) {
        let mut state = self.state();
        let compact_revision = state.revision;
        for watcher in state.watchers.drain(..) {
            let cancel = PbWatchResponse { canceled: true, compact_revision, ..Default::default() };
            watcher.try_send(Ok(cancel)).unwrap();
        }
    }

    /// Whether there are keys, and each of them hangs on a lease that stands.
    pub fn keys_are_leased(&self) -> bool {
        let state = self.state();
        !state.keys.is_empty() && state.keys.values().all(|found| state.leases.contains(&found.lease))
    }
}

impl State {
    fn range(&self, request: &PbRangeRequest) -> PbRangeResponse {
        let is_wanted = |key: &Vec<u8>| match request.range_end.is_empty() {
            true => *key == request.key,
            false => (&request.key..&request.range_end).contains(&key),
        };
        let found = self.keys.iter().filter(|(key, _)| is_wanted(key));
        let kvs: Vec<_> = found.map(|(_, found)| found.clone()).collect();
        PbRangeResponse { count: kvs.len() as i64, kvs, ..Default::default() }
    }

    fn holds(&self, compare: &PbCompare) -> bool {
        let Some(PbTargetUnion::ModRevision(expected)) = compare.target_union else {
            panic!("a comparison that nobody makes: {compare:?}")
        };
        self.keys.get(&compare.key).map_or(0, |found| found.mod_revision) == expected
    }

    fn apply(&mut self, request: PbTxnOpRequest) -> Result<PbTxnOpResponse, Status> {
        self.revision += 1;
        match request {
            PbTxnOpRequest::RequestRange(range) => Ok(PbTxnOpResponse::ResponseRange(self.range(&range))),
            PbTxnOpRequest::RequestPut(put) => {
                if !self.leases.contains(&put.lease) {
                    return Err(Status::not_found("etcdserver: requested lease not found"));
                }
                let written = PbKeyValue {
                    key: put.key.clone(),
                    value: put.value,
                    lease: put.lease,
                    mod_revision: self.revision,
                    ..Default::default()
                };
                self.keys.insert(put.key, written);
                self.tell();
                Ok(PbTxnOpResponse::ResponsePut(PbPutResponse::default()))
            }
            PbTxnOpRequest::RequestDeleteRange(delete) => {
                self.keys.remove(&delete.key);
                self.tell();
                Ok(PbTxnOpResponse::ResponseDeleteRange(PbDeleteResponse::default()))
            }
            PbTxnOpRequest::RequestTxn(_) => panic!("transactions in transactions are not used"),
        }
    }

    fn tell(&mut self) {
        if self.loses_events {
            return;
        }
        let events = vec![PbEvent::default()];
        self.watchers.retain(|watcher| {
            watcher.try_send(Ok(PbWatchResponse { events: events.clone(), ..Default::default() })).is_ok()
        });
    }
}

#[async_trait]
impl PbKvService for Stub {
    type RangeStreamStream = Stream<PbRangeStreamResponse>;

    async fn range(&self, request: Request<PbRangeRequest>) -> Answer<PbRangeResponse> {
        Ok(Response::new(self.state().range(request.get_ref())))
    }

    async fn txn(&self, request: Request<PbTxnRequest>) -> Answer<PbTxnResponse> {
        let PbTxnRequest { compare, success, failure } = request.into_inner();
        let mut state = self.state();
        let succeeded = compare.iter().all(|compare| state.holds(compare));
        let chosen = if succeeded { success } else { failure };
        let operations = chosen.into_iter().filter_map(|operation| operation.request);
        let answers = operations.map(|operation| {
            let response = Some(state.apply(operation)?);
            Ok(PbResponseOp { response })
        });
        let responses = answers.collect::<Result<_, Status>>()?;
        Ok(Response::new(PbTxnResponse { header: None, succeeded, responses }))
    }

    async fn range_stream(&self, _: Request<PbRangeRequest>) -> Answer<Self::RangeStreamStream> {
        Err(Status::unimplemented("is not used"))
    }
    async fn put(&self, _: Request<PbPutRequest>) -> Answer<PbPutResponse> {
        Err(Status::unimplemented("is not used"))
    }
    async fn delete_range(&self, _: Request<PbDeleteRequest>) -> Answer<PbDeleteResponse> {
        Err(Status::unimplemented("is not used"))
    }
    async fn compact(&self, _: Request<PbCompactionRequest>) -> Answer<PbCompactionResponse> {
        Err(Status::unimplemented("is not used"))
    }
}

#[async_trait]
impl PbLeaseService for Stub {
    type LeaseKeepAliveStream = Stream<PbLeaseKeepAliveResponse>;

    async fn lease_grant(&self, request: Request<PbLeaseGrantRequest>) -> Answer<PbLeaseGrantResponse> {
        let mut state = self.state();
        state.granted += 1;
        let id = state.granted;
        state.leases.insert(id);
        let ttl = request.get_ref().ttl;
        Ok(Response::new(PbLeaseGrantResponse { id, ttl, ..Default::default() }))
    }

    async fn lease_revoke(&self, request: Request<PbLeaseRevokeRequest>) -> Answer<PbLeaseRevokeResponse> {
        let mut state = self.state();
        let id = request.get_ref().id;
        if !state.leases.remove(&id) {
            return Err(Status::not_found("etcdserver: requested lease not found"));
        }
        state.keys.retain(|_, found| found.lease != id);
        state.tell();
        Ok(Response::new(PbLeaseRevokeResponse::default()))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Answer<Self::LeaseKeepAliveStream> {
        let stub = self.clone();
        let answers = request.into_inner().enumerate().map(move |(number, request)| {
            let id = request?.id;
            let state = stub.state();
            let (id, is_alive) = match state.keep_alives {
                KeepAlives::Honest => (id, state.leases.contains(&id)),
                KeepAlives::AlwaysAlive => (id, true),
                KeepAlives::OnceAlive => (id, number == 0),
                KeepAlives::OfAnother => (id + 1, true),
            };
            let ttl = if is_alive { 2 } else { 0 };
            Ok(PbLeaseKeepAliveResponse { header: None, id, ttl })
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn lease_time_to_live(
        &self,
        _: Request<PbLeaseTimeToLiveRequest>,
    ) -> Answer<PbLeaseTimeToLiveResponse> {
        Err(Status::unimplemented("is not used"))
    }
    async fn lease_leases(&self, _: Request<PbLeaseLeasesRequest>) -> Answer<PbLeaseLeasesResponse> {
        Err(Status::unimplemented("is not used"))
    }
}

#[async_trait]
impl PbWatchService for Stub {
    type WatchStream = Stream<PbWatchResponse>;

    async fn watch(&self, request: Request<Streaming<PbWatchRequest>>) -> Answer<Self::WatchStream> {
        assert!(
            request.metadata().contains_key("hasleader"),
            "a member without a leader would go on for ever"
        );
        let (watcher, answers) = mpsc::channel(100);
        let created = PbWatchResponse { created: true, ..Default::default() };
        watcher.try_send(Ok(created)).unwrap();
        self.state().watchers.push(watcher);
        let requests = request.into_inner();
        // The client's half is kept open and says nothing more.
        let answers =
            stream::unfold((ReceiverStream::new(answers), requests), async |(mut answers, requests)| {
                Some((answers.next().await?, (answers, requests)))
            });
        Ok(Response::new(answers.boxed()))
    }
}
