//! Everybody who listens to a container's output.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

/// Pieces of output that wait for one who attached.
const QUEUE: usize = 64;

/// One who does not take them is left behind after that; so long the container waits, too.
const SLOW_LIMIT: Duration = Duration::from_secs(10);

/// Of what a container with an input said before anybody came, so much is kept for the first: its prompt.
const EARLY_BYTES: usize = 16 * 1024;

/// Which of the two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Out,
    Err,
}

struct Listener {
    out: mpsc::Sender<Bytes>,
    err: mpsc::Sender<Bytes>,
}

impl Listener {
    fn channel(&self, output: Output) -> &mpsc::Sender<Bytes> {
        match output {
            Output::Out => &self.out,
            Output::Err => &self.err,
        }
    }
}

#[derive(Default)]
struct State {
    listeners: Vec<Listener>,
    /// None: nobody is waited for.
    early: Option<Vec<(Output, Bytes)>>,
    ended: bool,
}

/// Everybody who listens to a container's output.
pub(crate) struct Listeners {
    state: Mutex<State>,
    /// The output has ended.
    over: Notify,
    slow_limit: Duration,
}

impl Listeners {
    /// `interactive`: what is said before anybody listens is kept, a little of it.
    pub(crate) fn new(interactive: bool) -> Self {
        Self {
            state: Mutex::new(State {
                early: interactive.then(Vec::new),
                ..State::default()
            }),
            over: Notify::new(),
            slow_limit: SLOW_LIMIT,
        }
    }

    /// Held for moments only.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a piece of output to all of them.
    pub(crate) async fn tell(&self, output: Output, bytes: &[u8]) {
        let listeners: Vec<mpsc::Sender<Bytes>> = {
            let mut state = self.state();
            if let Some(early) = &mut state.early {
                early.push((output, Bytes::copy_from_slice(bytes)));
                let mut size: usize = early.iter().map(|(_, bytes)| bytes.len()).sum();
                while size > EARLY_BYTES && early.len() > 1 {
                    size -= early.remove(0).1.len();
                }
            }
            state.listeners.iter().map(|l| l.channel(output).clone()).collect()
        };
        if listeners.is_empty() {
            return;
        }
        let bytes = Bytes::copy_from_slice(bytes);
        let mut left_behind = vec![];
        for listener in listeners {
            let sent = tokio::time::timeout(self.slow_limit, listener.send(bytes.clone())).await;
            if !matches!(sent, Ok(Ok(()))) {
                left_behind.push(listener);
            }
        }
        if !left_behind.is_empty() {
            let gone = |l: &Listener| left_behind.iter().any(|other| l.channel(output).same_channel(other));
            self.state().listeners.retain(|l| !gone(l));
        }
    }

    /// The output has ended.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.listeners.clear();
        drop(state);
        self.over.notify_waiters();
    }

    /// Waits until the output has ended, and with it all that was to be written of it.
    pub(crate) async fn ended(&self) {
        let over = self.over.notified();
        if !self.state().ended {
            over.await;
        }
    }

    pub(super) fn listen(&self) -> (mpsc::Receiver<Bytes>, mpsc::Receiver<Bytes>) {
        let ((out, from_out), (err, from_err)) = (mpsc::channel(QUEUE), mpsc::channel(QUEUE));
        let listener = Listener { out, err };
        let mut state = self.state();
        for (output, bytes) in state.early.take().unwrap_or_default() {
            // More pieces than the queue holds: the last are missing, as they would be without this.
            let _ = listener.channel(output).try_send(bytes);
        }
        if !state.ended {
            state.listeners.push(listener);
        }
        (from_out, from_err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_to_come_reads_what_was_said_before() {
        let listeners = Listeners::new(true);
        listeners.tell(Output::Out, b"/ # ").await;
        let (mut out, mut err) = listeners.listen();
        listeners.tell(Output::Err, b"oops").await;
        assert_eq!(out.recv().await.unwrap(), "/ # ");
        assert_eq!(err.recv().await.unwrap(), "oops");
        let (mut second, _) = listeners.listen();
        listeners.tell(Output::Out, b"ls").await;
        assert_eq!(second.recv().await.unwrap(), "ls");
        assert_eq!(out.recv().await.unwrap(), "ls");
        listeners.end();
        assert!(out.recv().await.is_none());
        assert!(listeners.listen().0.recv().await.is_none());
    }

    #[tokio::test]
    async fn early_output_is_kept_within_bounds() {
        let listeners = Listeners::new(true);
        for _ in 0..1000 {
            listeners.tell(Output::Out, &[b'x'; 1000]).await;
        }
        let kept: usize = listeners.state().early.iter().flatten().map(|(_, b)| b.len()).sum();
        assert!(kept <= EARLY_BYTES, "{kept}");
    }

    #[tokio::test]
    async fn who_does_not_listen_is_left_behind() {
        let listeners = Listeners {
            slow_limit: Duration::ZERO,
            ..Listeners::new(false)
        };
        let (mut out, _err) = listeners.listen();
        for _ in 0..=QUEUE {
            listeners.tell(Output::Out, b"x").await;
        }
        assert!(listeners.state().listeners.is_empty());
        let mut received = 0;
        while out.recv().await.is_some() {
            received += 1;
        }
        assert_eq!(received, QUEUE);
    }
}
