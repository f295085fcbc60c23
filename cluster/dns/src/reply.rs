//! From a request's bytes to what is to be done about it, and from there to the answer's bytes. Pure.

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record, RecordType};

use crate::zone::{Found, Zone, alias};

/// Names that stand for names that stand for names: no more of them than this.
const ALIASES_MAX: usize = 8;
/// What fits into a datagram on any path (the DNS flag day of 2020).
pub(crate) const PAYLOAD_MAX: u16 = 1232;
/// What every client takes (RFC 1035, 4.2.1).
const PAYLOAD_MIN: u16 = 512;
/// An answer over TCP.
pub(crate) const STREAM_MAX: usize = 65_535;

/// What to do about a request.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// It is no request; an answer could come back as another one for ever.
    Ignore,
    /// Send this.
    Send(Message),
    /// Ask a resolver of the host this, and complete the answer with what it says.
    Forward(Message, Query),
}

/// Looks at a request. `zone` None: the cluster's names are not known here; `turn` decides which address comes first.
pub(crate) fn step(zone: Option<&Zone>, bytes: &[u8], turn: usize) -> Step {
    let request = match Message::from_vec(bytes) {
        Ok(request) if request.metadata.message_type == MessageType::Query => request,
        Ok(_) => return Step::Ignore,
        Err(_) => return malformed(bytes),
    };
    let mut answer = Message::response(request.metadata.id, request.metadata.op_code);
    answer.metadata = Metadata::response_from_request(&request.metadata);
    answer.metadata.recursion_available = true;
    answer.metadata.authentic_data = false;
    answer.add_queries(request.queries.iter().cloned());
    if let Some(asked) = &request.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD_MAX);
        edns.set_dnssec_ok(asked.flags().dnssec_ok);
        answer.set_edns(edns);
        if asked.version() > 0 {
            return fail(answer, ResponseCode::BADVERS);
        }
    }
    if request.metadata.op_code != OpCode::Query {
        return fail(answer, ResponseCode::NotImp);
    }
    let [query] = request.queries.as_slice() else {
        return fail(answer, ResponseCode::FormErr);
    };
    if query.query_class() != DNSClass::IN || matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) {
        return fail(answer, ResponseCode::Refused);
    }
    match zone {
        Some(zone) => look_up(zone, answer, query.clone(), turn),
        None => Step::Forward(answer, query.clone()),
    }
}

fn look_up(zone: &Zone, mut answer: Message, mut query: Query, turn: usize) -> Step {
    answer.metadata.authoritative = true;
    for _ in 0..=ALIASES_MAX {
        let found = zone.find(query.name(), query.query_type());
        if found != Found::Elsewhere && !zone.complete() {
            // What is not known yet may exist.
            return fail(answer, ResponseCode::ServFail);
        }
        match found {
            Found::Elsewhere => {
                answer.metadata.authoritative = false;
                return Step::Forward(answer, query);
            }
            Found::Nothing => {
                answer.add_authority(zone.authority());
                return fail(answer, ResponseCode::NXDomain);
            }
            Found::Records(mut records, helpful) => {
                if records.is_empty() {
                    answer.add_authority(zone.authority());
                }
                rotate(&mut records, turn);
                answer.add_answers(records);
                answer.add_additionals(helpful);
                return Step::Send(answer);
            }
            Found::Alias(target) => {
                answer.add_answer(alias(query.name(), &target));
                if matches!(query.query_type(), RecordType::CNAME | RecordType::ANY) {
                    return Step::Send(answer);
                }
                query.set_name(target);
            }
        }
    }
    fail(answer, ResponseCode::ServFail)
}

/// Clients take the first address: each gets its turn.
fn rotate(records: &mut [Record], turn: usize) {
    if let Some(by) = turn.checked_rem(records.len()) {
        records.rotate_left(by);
    }
}

fn fail(mut answer: Message, code: ResponseCode) -> Step {
    answer.metadata.response_code = code;
    // The upper bits of a code travel in EDNS.
    if let Some(edns) = answer.edns.as_mut() {
        edns.set_rcode_high(code.high());
    }
    Step::Send(answer)
}

/// A request that cannot be read is told so, if at least its head can be.
fn malformed(bytes: &[u8]) -> Step {
    match bytes {
        [a, b, flags, _, ..] if bytes.len() >= 12 && flags & 0x80 == 0 => {
            let id = u16::from_be_bytes([*a, *b]);
            Step::Send(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr))
        }
        _ => Step::Ignore,
    }
}

/// The request to a resolver.
pub(crate) fn upstream_request(answer: &Message, query: &Query, id: u16) -> Message {
    let mut request = Message::new(id, MessageType::Query, OpCode::Query);
    request.metadata.recursion_desired = true;
    request.metadata.checking_disabled = answer.metadata.checking_disabled;
    request.add_query(query.clone());
    if let Some(edns) = &answer.edns {
        request.set_edns(edns.clone());
    }
    request
}

/// Whether a resolver's message answers this request, and not one that somebody made up.
pub(crate) fn answers(request: &Message, reply: &Message) -> bool {
    reply.metadata.message_type == MessageType::Response
        && reply.metadata.id == request.metadata.id
        && reply.queries == request.queries
}

/// Completes an answer with what a resolver said; None: nothing, in time.
pub(crate) fn complete(mut answer: Message, reply: Option<Message>) -> Message {
    let Some(reply) = reply else {
        answer.metadata.response_code = ResponseCode::ServFail;
        return answer;
    };
    answer.metadata.response_code = reply.metadata.response_code;
    answer.metadata.truncation = reply.metadata.truncation;
    answer.add_answers(reply.answers);
    answer.add_authorities(reply.authorities);
    answer.add_additionals(reply.additionals);
    answer
}

/// How long an answer to this request may be, sent as a datagram.
pub(crate) fn datagram_limit(request: &[u8]) -> usize {
    let asked = Message::from_vec(request).map_or(PAYLOAD_MIN, |request| request.max_payload());
    asked.clamp(PAYLOAD_MIN, PAYLOAD_MAX).into()
}

/// The bytes of an answer, no more than `limit`: what does not fit is left out, and the client told to ask over TCP.
pub(crate) fn encode(answer: &Message, limit: usize) -> Option<Vec<u8>> {
    let whole = answer.to_vec().ok()?;
    if whole.len() <= limit {
        return Some(whole);
    }
    let mut less = answer.clone();
    less.additionals.clear();
    while let Ok(bytes) = less.to_vec() {
        if bytes.len() <= limit {
            return Some(bytes);
        }
        if less.answers.pop().is_none() && less.authorities.pop().is_none() {
            return None;
        }
        less.metadata.truncation = true;
    }
    None
}
