//! What a rollout waits for, in sentences of bounded length: how many pods, and one of them as an example.

/// Why pods are not further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The budget is used up.
    Budget,
    /// More is lost than is allowed.
    Loss,
    /// The quiet period is not over.
    Grace,
    /// Nodes may still send to it.
    LetGo,
    /// Connections are open.
    Connections,
    /// Nodes do not send to it yet.
    Return,
    /// Its node has not got the new image.
    Prewarm,
    /// The new image does not run yet.
    Image,
    /// The new amounts are not in effect yet.
    Resize,
    /// Containers of an earlier batch are not Ready.
    Batch,
    /// A preNormal hook.
    PreNormal,
    /// An inPlaceUpdate hook.
    InPlaceUpdate,
    /// A preDelete hook.
    PreDelete,
    /// The last available pod stays until another one is.
    LastAvailable,
    /// Evicted, and its replacement is not available yet.
    Replacement,
    /// The one whose name and claims another takes is not gone yet.
    Predecessor,
    /// It does not serve, and others come first in the order for a while yet.
    Turn,
    /// Pods after it wait until it is available.
    Order,
    /// A claim has to be gone before the pod can be created.
    Claim,
    /// Others have to be available, or gone, before it is deleted.
    ScaleDown,
    /// Its claims have been asked to grow.
    Growth,
}

impl Wait {
    fn words(self) -> &'static str {
        match self {
            Self::Budget => "to update held by the budget (maxUnavailable)",
            Self::Loss => "to update held by afloat.dev/max-loss",
            Self::Grace => "out of service for gracePeriodSeconds",
            Self::LetGo => "out of service, until all nodes have let go",
            Self::Connections => "out of service, until its connections have ended",
            Self::Return => "Ready and not sent to yet",
            Self::Prewarm => "to update held by afloat.dev/prewarm, as the image is not on the node",
            Self::Image => "not running the new image yet",
            Self::Resize => "not resized yet",
            Self::Batch => "updated in part",
            Self::PreNormal => "waiting for hook preNormal",
            Self::InPlaceUpdate => "waiting for hook inPlaceUpdate",
            Self::PreDelete => "waiting for hook preDelete",
            Self::LastAvailable => "to update as the last available one, kept until another is available (maxSurge)",
            Self::Replacement => "evicted, kept until a replacement is available",
            Self::Predecessor => "not gone yet, whose name and claims a new one takes",
            Self::Turn => "to update after others, in their order, though not available",
            Self::Order => "not available yet, which others are created or deleted after (OrderedReady)",
            Self::Claim => "to create, whose claim is in the way",
            Self::ScaleDown => "to delete after others are available or gone (OrderedReady)",
            Self::Growth => "whose claims have not grown yet",
        }
    }
}

/// The sentences, in the order in which their kinds came up.
#[derive(Debug, Default)]
pub struct Waits {
    pods: Vec<(Wait, usize, String)>,
    other: Vec<String>,
}

impl Waits {
    /// One more pod waits; the example of the first one is shown.
    pub fn pod(&mut self, why: Wait, example: impl FnOnce() -> String) {
        self.pods(why, 1, || Some(example()));
    }

    /// So many more; the example is that of the first one.
    pub fn pods(&mut self, why: Wait, count: usize, example: impl FnOnce() -> Option<String>) {
        if count == 0 {
            return;
        }
        match self.pods.iter_mut().find(|(other, ..)| *other == why) {
            Some((_, known, _)) => *known += count,
            None => self.pods.push((why, count, example().unwrap_or_default())),
        }
    }

    /// A sentence that is not about pods one by one.
    pub fn say(&mut self, sentence: String) {
        self.other.push(sentence);
    }

    /// The same, which may have been said.
    pub fn say_once(&mut self, sentence: String) {
        if !self.other.contains(&sentence) {
            self.other.push(sentence);
        }
    }

    /// All sentences.
    pub fn sentences(&self) -> Vec<String> {
        let pods = self.pods.iter().map(|(why, count, example)| {
            let noun = if *count == 1 { "pod" } else { "pods" };
            format!("{count} {noun} {}: {example}", why.words())
        });
        pods.chain(self.other.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_pods_are_one_sentence() {
        let mut waits = Waits::default();
        for name in ["a", "b", "c"] {
            waits.pod(Wait::Image, || format!("container app of {name}"));
        }
        waits.pod(Wait::PreDelete, || "d".into());
        assert_eq!(
            waits.sentences(),
            [
                "3 pods not running the new image yet: container app of a",
                "1 pod waiting for hook preDelete: d"
            ]
        );
    }
}
