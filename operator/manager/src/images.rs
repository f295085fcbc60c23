//! Images before they are needed: NodeImages, ImagePullJobs and ImageListPullJobs.
//!
//! All of them are looked at in one round, by one worker: what several jobs want of one node is one write, which no other one of ours
//! conflicts with (kruise #1528). What a round decides is in `afloat-images`.

mod act;
mod kept;
mod logins;
pub(crate) mod rollouts;

use std::sync::Arc;
use std::time::{Duration, Instant};

use afloat_api::{ImageListPullJob, ImagePullJob, NodeImage};
use afloat_images::world::{Machine, Resident, World};
use afloat_images::{Action, Plan, Told, plan};
use afloat_rollout::pod::images::Node;
use afloat_watching::feed::Pauses;
use afloat_watching::{Cache, Ledger, Looking, Queue, Urgency, Watchable, Writing, Written};
use afloat_words::key::Key;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::Resource as _;
use kube::Api;
use kube::runtime::watcher;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::abilities::served;
use crate::follow::appears_as;
use crate::operator::Operator;
use crate::round::act::{Outcome, REQUEST_TIMEOUT};
use crate::work::Controls;
use act::Kind;
use kept::{Copies, Lists, Residents};
use logins::Logins;

/// Who the events come from.
const COMPONENT: &str = "imagepulljob-controller";
/// Writes of one round that are under way at the same time.
const PARALLEL: usize = 16;
/// A round rests that many times as long as its planning took.
const REST: u32 = 16;
/// Longest rest.
const REST_MAX: Duration = Duration::from_secs(1);
/// After this time without the sight of an own write the caches are listed anew.
const UNSEEN: Duration = Duration::from_secs(60);
/// Whether they are seen is looked at so often if nothing happens.
const UNSEEN_LOOK: Duration = Duration::from_secs(5);

/// Looks after images until `shutdown`, those of the workloads' rollouts among them. An operator of one namespace does not: nodes are
/// everybody's.
pub(crate) async fn run(operator: Arc<Operator>, workloads: Vec<Arc<dyn Controls>>, shutdown: CancellationToken) {
    if operator.namespace.is_some() {
        return shutdown.cancelled().await;
    }
    if !are_there(&operator).await {
        tracing::info!("no NodeImage or ImagePullJob in this cluster yet");
        // They come together, and this is the last of them.
        let kind = (NodeImage::GROUP, NodeImage::API_VERSION, ImageListPullJob::KIND);
        if !appears_as(&operator.client, kind, &shutdown).await {
            return;
        }
    }
    Images::new(operator, workloads).work(&shutdown).await;
}

async fn are_there(operator: &Operator) -> bool {
    let ask = served(&operator.client, NodeImage::GROUP, NodeImage::API_VERSION);
    let kinds = tokio::time::timeout(REQUEST_TIMEOUT, ask).await;
    let kinds = kinds.ok().and_then(Result::ok).unwrap_or_default();
    [NodeImage::KIND, ImagePullJob::KIND, ImageListPullJob::KIND]
        .iter()
        .all(|kind| kinds.contains(*kind))
}

/// See the module.
struct Images {
    operator: Arc<Operator>,
    lists: Arc<Cache<Lists>>,
    /// Whose rollouts want their images beforehand: those that the controllers know. A kind whose objects are not here yet asks for
    /// nothing, and takes nothing back.
    workloads: Vec<Arc<dyn Controls>>,
    copies: Arc<Cache<Copies>>,
    pods: Arc<Cache<Residents>>,
    queue: Arc<Queue>,
    ledger: Ledger,
    /// All rounds are about the same thing.
    key: Key,
}

impl Images {
    fn new(operator: Arc<Operator>, workloads: Vec<Arc<dyn Controls>>) -> Self {
        let images = Self {
            operator,
            lists: Cache::new(),
            workloads,
            copies: Cache::new(),
            pods: Cache::new(),
            queue: Arc::default(),
            ledger: Ledger::default(),
            key: Key::new("", "images"),
        };
        images.follow();
        images
    }

    /// From now on changes ask for a round.
    fn follow(&self) {
        let key = [self.key.clone()];
        macro_rules! all {
            ($($cache:expr, $kept:ty;)*) => {$(
                let keys = key.clone();
                self.queue.follow($cache, move |_: &$kept| keys.clone());
            )*};
        }
        all! {
            &self.operator.node_images, NodeImage;
            &self.operator.pull_jobs, ImagePullJob;
            &self.lists, ImageListPullJob;
            &self.copies, k8s_openapi::api::core::v1::Secret;
        }
        for workloads in &self.workloads {
            workloads.ask_of_images(&self.queue, &self.key);
        }
        let keys = key.clone();
        let same = |old: &Resident, new: &Resident| old == new;
        self.queue
            .follow_news(&self.pods, move |_: &Resident| keys.clone(), same, |_| false);
        let same = |old: &Node, new: &Node| {
            let meta = |node: &Node| (node.metadata.labels.clone(), node.metadata.deletion_timestamp.clone());
            old.status.ready == new.status.ready && meta(old) == meta(new)
        };
        self.queue
            .follow_news(&self.operator.nodes, move |_: &Node| key.clone(), same, |_| false);
    }

    async fn work(&self, shutdown: &CancellationToken) {
        let mut tasks = JoinSet::new();
        let client = &self.operator.client;
        self.feed(
            &mut tasks,
            &self.operator.node_images,
            Api::all(client.clone()),
            shutdown,
        );
        self.feed(&mut tasks, &self.operator.pull_jobs, Api::all(client.clone()), shutdown);
        self.feed(&mut tasks, &self.lists, Api::all(client.clone()), shutdown);
        let copies = Api::namespaced(client.clone(), afloat_api::names::DAEMON_NAMESPACE);
        self.feed(&mut tasks, &self.copies, copies, shutdown);
        let ready = async {
            self.operator.nodes.ready().await;
            self.operator.node_images.ready().await;
            self.operator.pull_jobs.ready().await;
            self.lists.ready().await;
        };
        if shutdown.run_until_cancelled(ready).await.is_none() {
            return;
        }
        self.queue.add(self.key.clone(), Urgency::Calm);
        let mut logins = Logins::default();
        let mut pods = false;
        loop {
            let Some(key) = shutdown.run_until_cancelled(self.queue.take()).await else {
                return;
            };
            // Pods of others are followed only where somebody chooses nodes by them.
            if !pods && self.chooses_by_pods() {
                self.feed(&mut tasks, &self.pods, Api::all(client.clone()), shutdown);
                pods = true;
                let ready = tokio::time::timeout(REQUEST_TIMEOUT, self.pods.ready());
                let _: Option<_> = shutdown.run_until_cancelled(ready).await;
            }
            let jobs = self.operator.pull_jobs.peek_all();
            let again = logins.look(client, &jobs).await;
            match self.round(&logins, pods).await {
                Ok((next, rest)) => {
                    let next = [next, again].into_iter().flatten().min();
                    self.queue.done(&key, next, rest);
                }
                Err(()) => self.queue.retry(&key),
            }
        }
    }

    fn feed<K: Watchable>(
        &self,
        tasks: &mut JoinSet<()>,
        cache: &Arc<Cache<K>>,
        api: Api<K::Wire>,
        shutdown: &CancellationToken,
    ) {
        let config = watcher::Config::default();
        tasks.spawn(cache.clone().feed(api, config, Pauses::Patient, shutdown.clone()));
    }

    fn chooses_by_pods(&self) -> bool {
        let jobs = self.operator.pull_jobs.peek_all();
        jobs.iter()
            .any(|job| job.spec.template.pod_selector.is_some() && job.status.completion_time.is_none())
    }

    /// One round: when to make the next one, if nothing happens, and how long to rest before.
    async fn round(&self, logins: &Logins, pods: bool) -> Result<(Option<Duration>, Duration), ()> {
        let metrics = &self.operator.metrics;
        let looking = match self.ledger.settle(&self.key, |lag| metrics.lagged(lag)) {
            Ok(looking) => looking,
            Err(behind) => {
                if behind.since.elapsed() > UNSEEN {
                    tracing::warn!("own writes about images not seen for a minute, listing anew");
                    self.ledger.relist(&self.key);
                }
                return Ok((Some(UNSEEN_LOOK), Duration::ZERO));
            }
        };
        let (began, now) = (Instant::now(), Timestamp::now());
        let plan = self.look(&looking, logins, pods, now);
        let rest = began.elapsed().saturating_mul(REST).min(REST_MAX);
        let writing = looking.write();
        let wake = plan.wake_at.map(|at| {
            let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            left + Duration::from_millis(1)
        });
        let good = self.act(&writing, plan.actions).await;
        if good {
            plan.told.iter().for_each(|told| self.tell(told));
            return Ok((wake, rest));
        }
        Err(())
    }

    fn look(&self, looking: &Looking<'_>, logins: &Logins, pods: bool, now: Timestamp) -> Plan {
        let nodes = looking.at(&self.operator.nodes).all();
        let machines = nodes.iter().map(|node| Machine {
            metadata: &node.metadata,
            ready: node.status.ready,
        });
        let residents = pods.then(|| looking.at(&self.pods).all());
        let mut plan = plan(&World {
            now,
            jobs: &looking.at(&self.operator.pull_jobs).all(),
            lists: &looking.at(&self.lists).all(),
            node_images: &looking.at(&self.operator.node_images).all(),
            nodes: &machines.collect::<Vec<_>>(),
            pods: residents.as_deref(),
            copies: Some(&looking.at(&self.copies).all()),
            sources: logins.known(),
            seed: rand::random(),
        });
        for workloads in &self.workloads {
            workloads.warm(looking, now, &mut plan);
        }
        plan
    }

    /// Carries the actions out; false if another round has to follow soon.
    async fn act(&self, writing: &Writing<'_>, actions: Vec<Action>) -> bool {
        let client = &self.operator.client;
        let outcomes = futures::stream::iter(actions)
            .map(|action| async move {
                let (kind, outcome) = act::perform(client, &action).await;
                (action, kind, outcome)
            })
            .buffer_unordered(PARALLEL);
        let mut outcomes = std::pin::pin!(outcomes);
        let mut good = true;
        while let Some((action, kind, outcome)) = outcomes.next().await {
            tracing::debug!(?action, ?outcome, "acted on images");
            match outcome {
                Ok(written) => self.wrote(writing, kind, written),
                Err(Outcome::Unknown(why)) => {
                    tracing::warn!(?kind, why, "write without an answer, listing anew");
                    self.wrote(writing, kind, Written::Unknown);
                    good = false;
                }
                Err(Outcome::Refused(why)) => {
                    tracing::warn!(?kind, why, "write refused");
                    good = false;
                }
                Err(_) => good = false,
            }
        }
        good
    }

    fn wrote(&self, writing: &Writing<'_>, kind: Kind, written: Written) {
        match kind {
            Kind::NodeImage => writing.wrote(&self.operator.node_images, written),
            Kind::Job => writing.wrote(&self.operator.pull_jobs, written),
            Kind::List => writing.wrote(&self.lists, written),
            Kind::Secret => writing.wrote(&self.copies, written),
        }
    }

    fn tell(&self, told: &Told) {
        let about = json!({
            "apiVersion": ImagePullJob::API_VERSION, "kind": ImagePullJob::KIND, "namespace": told.job.namespace,
            "name": told.job.name, "uid": told.job.uid, "resourceVersion": told.job.resource_version,
        });
        let said = (told.reason, told.message.clone());
        self.operator.recorder.tell_of(&about, COMPONENT, "Warning", said);
    }
}
