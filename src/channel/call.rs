//! Questions and answers over channels: who asks gets the answer, and nobody else's.
//!
//! A question is a message that begins with a magic, its caller's number and its own; an answer begins with a magic, the
//! question's number and how it went. Over sockets the answer goes back to where the question came from. Elsewhere each
//! caller has a channel of its own for answers, whose address the server composes from one that both were given and the
//! caller's number: what a peer sends is never taken for an address.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;

use super::way_back::{
    Answers, CallerNumber, Horizon, WayBack, address_of, open_lasting, remove_leftovers, remove_of, way_back,
};
use super::{Channel, ChannelPeer};
use crate::address::Address;
use crate::error::Result;
use crate::sys::fork;
use crate::timeout::{Deadline, Timeout};
use crate::wait::{Forked, Object, Turns};

const QUESTION: [u8; 4] = *b"WWqu";
const ANSWER: [u8; 4] = *b"WWan";
const QUESTION_HEAD: usize = 20;
const ANSWER_HEAD: usize = 13;

/// How long an answer may wait for room at its caller's before it is dropped.
const PATIENCE: Timeout = Timeout::After(Duration::from_secs(1));
/// Callers whose channels a server keeps open.
const KEPT: usize = 64;

/// The asking side: sends questions over a channel, and waits for the answers.
///
/// One question is under way at a time; other threads wait for their turn. An answer that comes after its question was
/// given up is dropped and counted.
///
/// ```
/// use wigwag::{Caller, Server, Timeout};
/// # let text = format!("unix:@wwtest-call-doc-{}", std::process::id());
/// let address = text.parse()?; // or "ring:jobs", "mq:/jobs", "tcp://127.0.0.1:4000"
/// let server = Server::open(&address, Timeout::Now)?;
/// std::thread::spawn(move || server.serve(|question| Ok(question.to_ascii_uppercase()), Timeout::Forever));
/// let caller = Caller::open(&address, Timeout::Forever)?;
/// assert_eq!(caller.call(b"hello", Timeout::Forever)?, b"HELLO");
/// # Ok::<(), wigwag::Error>(())
/// ```
pub struct Caller {
    object: Object,
    questions: Channel,
    /// Where answers come in, unless they come the way the questions go.
    answers: Option<Answers>,
    number: CallerNumber,
    next: Turns<Next>,
    late: AtomicU64,
    generation: u32,
}

/// The number of the next question. The first is a number by chance: an answer to a caller before, of which a datagram finds the
/// address taken by this one, is none to it.
struct Next(u64);

impl Next {
    fn new() -> Next {
        use std::hash::{BuildHasher, RandomState};
        Next(RandomState::new().hash_one(std::process::id()))
    }
}

impl Forked for Next {
    fn after_fork(&mut self) {}

    fn replaced(&self) -> Next {
        Next::new()
    }
}

/// The channels to those who have asked.
#[derive(Default)]
struct Callers(HashMap<CallerNumber, Arc<Channel>>);

impl Forked for Callers {
    fn after_fork(&mut self) {}

    fn replaced(&self) -> Callers {
        Callers::default()
    }
}

/// The answering side: receives questions over a channel, and answers whoever asked.
pub struct Server {
    object: Object,
    questions: Channel,
    /// When the last caller goes, another may come.
    _lasting: Option<Channel>,
    answers: Option<Address>,
    horizon: Horizon,
    callers: Turns<Callers>,
    dropped: AtomicU64,
    foreign: AtomicU64,
}

/// A question, to be answered or dropped.
pub struct Question<'a> {
    server: &'a Server,
    peer: Option<ChannelPeer>,
    caller: CallerNumber,
    number: u64,
    message: Vec<u8>,
}

impl Caller {
    /// Opens a channel for questions, and one for answers if its mechanism needs that; waits as
    /// [`Channel::open_sender`] does.
    ///
    /// # Errors
    /// As [`Channel::open_sender`]; `ENOTSUP` there is no way back over this mechanism.
    pub fn open(address: &Address, timeout: Timeout) -> Result<Caller> {
        let horizon = Horizon::own();
        let (number, answers) = match way_back(address)? {
            WayBack::Same => (horizon.number(), None),
            WayBack::Own => {
                let (number, answers) = Answers::make(address, horizon, timeout)?;
                (number, Some(answers))
            }
        };
        let questions = Channel::open_sender(address, timeout)?;
        let object = Object::new(address.to_string());
        Ok(Caller {
            object,
            questions,
            answers,
            number,
            next: Turns::new(Next::new()),
            late: AtomicU64::new(0),
            generation: fork::generation(),
        })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// `EREMOTEIO` the server's handler refused, with its text; `EPIPE`, `ECONNRESET` the server went in between: the
    /// question may have been acted on; `ENOTSUP` opened before a fork; `EAGAIN`, `ETIMEDOUT`, `ECANCELED` there is no answer yet, and if one comes it is
    /// dropped; `EMSGSIZE` the question is too large; what the channel gives.
    pub fn call(&self, question: &[u8], timeout: Timeout) -> Result<Vec<u8>> {
        let mut operation = self.object.operation("call", timeout);
        if self.generation != fork::generation() {
            return Err(operation
                .error(Errno::ENOTSUP)
                .because("a caller belongs to the process that opened it; open another"));
        }
        let mut next = self.next.take(&mut operation)?;
        let number = next.0;
        next.0 = number.wrapping_add(1);
        let mut message = Vec::with_capacity(QUESTION_HEAD + question.len());
        message.extend_from_slice(&QUESTION);
        message.extend_from_slice(&self.number.0.to_le_bytes());
        message.extend_from_slice(&number.to_le_bytes());
        message.extend_from_slice(question);
        self.questions.send(&message, operation.left())?;
        let answers = self.answers.as_ref().map_or(&self.questions, |answers| &answers.channel);
        let mut skipped = 0;
        loop {
            let mut answer = answers.recv_message(operation.left()).map_err(|error| match error.errno() {
                // What is left of a deadline may be nothing.
                libc::EAGAIN | libc::ETIMEDOUT if timeout != Timeout::Now => operation.error(Errno::ETIMEDOUT),
                libc::EAGAIN => operation.error(Errno::EAGAIN),
                _ => error,
            })?;
            let read = read_answer(&answer.data);
            let Some((_, went_well)) = read.filter(|(answered, _)| *answered == number) else {
                self.late.fetch_add(read.is_some().into(), Ordering::Relaxed); // a count for people: orders nothing
                operation.go_on(&mut skipped)?;
                continue;
            };
            answer.data.drain(..ANSWER_HEAD);
            if went_well {
                return Ok(answer.data);
            }
            let text = String::from_utf8_lossy(&answer.data).into_owned();
            return Err(operation.error(Errno::EREMOTEIO).because_found(text));
        }
    }

    /// Answers that came too late, and were dropped. Never blocks.
    pub fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    /// Ends the waits of all threads in it (`ECANCELED`).
    pub fn end_waits(&self) {
        self.questions.end_waits();
        if let Some(answers) = &self.answers {
            answers.channel.end_waits();
        }
        self.object.end_waits();
    }
}

impl Server {
    /// Opens a channel for questions; waits as [`Channel::open_receiver`] does. They do not end when the last caller goes:
    /// another may come.
    ///
    /// # Errors
    /// As [`Channel::open_receiver`]; `ENOTSUP` there is no way back over this mechanism.
    pub fn open(address: &Address, timeout: Timeout) -> Result<Server> {
        let horizon = Horizon::own();
        let answers = match way_back(address)? {
            WayBack::Same => None,
            WayBack::Own => {
                remove_leftovers(address, horizon);
                Some(address.clone())
            }
        };
        let (questions, lasting) = open_lasting(address, timeout)?;
        Ok(Server {
            object: Object::new(address.to_string()),
            questions,
            _lasting: lasting,
            answers,
            horizon,
            callers: Turns::new(Callers::default()),
            dropped: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
        })
    }

    /// Waits for a question. Messages that are none are skipped, and counted.
    ///
    /// # Errors
    /// As [`Channel::recv`].
    pub fn next(&self, timeout: Timeout) -> Result<Question<'_>> {
        let deadline = Deadline::after(timeout);
        let mut skipped = 0;
        loop {
            let found = self.questions.recv_message(deadline.left_of(timeout))?;
            if let Some((caller, number)) = read_question(&found.data) {
                let mut message = found.data;
                message.drain(..QUESTION_HEAD);
                return Ok(Question { server: self, peer: found.received.peer, caller, number, message });
            }
            self.foreign.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
            self.object.operation("receive", deadline.left_of(timeout)).go_on(&mut skipped)?;
        }
    }

    /// Waits for one question, and answers it with what `handler` makes of it, or with its refusal; whether somebody was
    /// there to take the answer.
    ///
    /// # Errors
    /// As [`Server::next`].
    pub fn serve_one(
        &self,
        handler: impl FnOnce(&[u8]) -> std::result::Result<Vec<u8>, String>,
        timeout: Timeout,
    ) -> Result<bool> {
        let question = self.next(timeout)?;
        let answer = handler(&question.message);
        Ok(question.answer(answer.as_deref().map_err(String::as_str)))
    }

    /// As [`Server::next`], for a loop that does nothing else: it ends when it shall, also while there are questions all the
    /// time, and senders of something else are cut off, or what they wrote is skipped, and counted.
    ///
    /// # Errors
    /// As [`Server::next`], but for `EBADMSG`; `ECANCELED` also if there is a question.
    pub fn next_in_turn(&self, timeout: Timeout) -> Result<Question<'_>> {
        let deadline = Deadline::after(timeout);
        let mut skipped = 0;
        loop {
            if self.object.is_ended() {
                return Err(self.object.error(Errno::ECANCELED, "receive"));
            }
            match self.next(deadline.left_of(timeout)) {
                Err(error) if error.is(Errno::EBADMSG) => {
                    self.object.operation("receive", deadline.left_of(timeout)).go_on(&mut skipped)?;
                }
                other => return other,
            }
        }
    }

    /// Answers questions as [`Server::serve_one`] does, until none has come for the timeout, or the waits in it are ended.
    ///
    /// # Errors
    /// As [`Server::next_in_turn`].
    pub fn serve(
        &self,
        mut handler: impl FnMut(&[u8]) -> std::result::Result<Vec<u8>, String>,
        timeout: Timeout,
    ) -> Result<()> {
        loop {
            let question = self.next_in_turn(timeout)?;
            let answer = handler(&question.message);
            question.answer(answer.as_deref().map_err(String::as_str));
        }
    }

    /// Answers that nobody was there to take, and were dropped. Never blocks.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Messages that were no questions. Never blocks.
    pub fn foreign(&self) -> u64 {
        self.foreign.load(Ordering::Relaxed)
    }

    /// Where callers reach it, with the port that the kernel chose.
    pub fn local_address(&self) -> Option<&Address> {
        self.questions.local_address()
    }

    /// Ends the waits of all threads in it (`ECANCELED`).
    pub fn end_waits(&self) {
        self.questions.end_waits();
        self.object.end_waits();
    }

    fn send(&self, caller: CallerNumber, peer: Option<&ChannelPeer>, answer: &[u8]) -> Result<()> {
        let Some(base) = &self.answers else {
            let peer = peer.ok_or_else(|| self.object.error(Errno::ENOTCONN, "answer"))?;
            return self.questions.reply(peer, answer, PATIENCE);
        };
        let channel = self.channel_to(caller, base)?;
        // Not under the lock: a caller that has no room holds up nobody but itself.
        let sent = channel.send(answer, PATIENCE);
        if sent.as_ref().is_err_and(|error| !error.is(Errno::EMSGSIZE)) {
            let Callers(callers) = &mut *self.callers.take_soon();
            if callers.get(&caller).is_some_and(|kept| Arc::ptr_eq(kept, &channel)) {
                callers.remove(&caller); // it may have been closed
            }
        }
        sent
    }

    fn channel_to(&self, caller: CallerNumber, base: &Address) -> Result<Arc<Channel>> {
        let Callers(callers) = &mut *self.callers.take_soon();
        if self.horizon.is_gone(caller) {
            callers.remove(&caller);
            let _ = remove_of(base, caller); // there may be nothing, as it was closed
            return Err(self.object.error(Errno::EPIPE, "answer"));
        }
        if let Some(channel) = callers.get(&caller) {
            return Ok(Arc::clone(channel));
        }
        self.forget_the_dead(base, callers);
        let channel = Arc::new(Channel::existing_sender(&address_of(base, caller)?)?);
        channel.keep_no_rest(); // there may be no other answer to send it ahead of
        callers.insert(caller, Arc::clone(&channel));
        Ok(channel)
    }

    /// When somebody new has come: lets go of those who have died since, and removes what they have left.
    fn forget_the_dead(&self, base: &Address, callers: &mut HashMap<CallerNumber, Arc<Channel>>) {
        callers.retain(|caller, _| {
            let gone = self.horizon.is_gone(*caller);
            if gone {
                let _ = remove_of(base, *caller);
            }
            !gone
        });
        if callers.len() >= KEPT {
            callers.clear();
        }
    }
}

impl Question<'_> {
    /// Its bytes.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Who asks, where the mechanism tells.
    pub fn peer(&self) -> Option<&ChannelPeer> {
        self.peer.as_ref()
    }

    /// Answers it, or refuses with a text; whether somebody was there to take it (if not, the answer is counted as dropped).
    /// One that is too large for the mechanism becomes a refusal that says so. Waits up to a second for room.
    pub fn answer(self, answer: std::result::Result<&[u8], &str>) -> bool {
        let sent = match answer {
            Ok(payload) => self.send(true, payload),
            Err(reason) => self.send(false, reason.as_bytes()),
        };
        let sent = match sent {
            // Whoever asked would otherwise wait for what cannot come.
            Err(error) if error.is(Errno::EMSGSIZE) => {
                self.send(false, format!("the answer could not be sent: {}", error.reason()).as_bytes())
            }
            sent => sent,
        };
        if sent.is_err() {
            self.server.dropped.fetch_add(1, Ordering::Relaxed); // a count for people: orders nothing
        }
        sent.is_ok()
    }

    fn send(&self, went_well: bool, payload: &[u8]) -> Result<()> {
        let mut message = Vec::with_capacity(ANSWER_HEAD + payload.len());
        message.extend_from_slice(&ANSWER);
        message.extend_from_slice(&self.number.to_le_bytes());
        message.push(u8::from(went_well));
        message.extend_from_slice(payload);
        self.server.send(self.caller, self.peer.as_ref(), &message)
    }
}

fn read_question(message: &[u8]) -> Option<(CallerNumber, u64)> {
    let head = message.get(..QUESTION_HEAD)?;
    (head[..4] == QUESTION).then_some(())?;
    Some((CallerNumber(word(head, 4)?), word(head, 12)?))
}

fn read_answer(message: &[u8]) -> Option<(u64, bool)> {
    let head = message.get(..ANSWER_HEAD)?;
    (head[..4] == ANSWER).then_some(())?;
    Some((word(head, 4)?, head[12] == 1))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.first_chunk().map(|eight| u64::from_le_bytes(*eight))
}
