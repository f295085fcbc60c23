//! Requests as anybody in the cluster may send them.

use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::{Name, RecordType};
use proptest::prelude::*;

use crate::reply::{Step, step};
use crate::zone::tests::zone;

fn requests() -> Vec<Vec<u8>> {
    let asked = |name: &str, kind| {
        let mut request = Message::query();
        request.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        request.set_edns(edns);
        request.to_vec().expect("a message")
    };
    vec![
        asked("web.shop.svc.cluster.local.", RecordType::A),
        asked("_http._tcp.web.shop.svc.cluster.local.", RecordType::SRV),
        asked("7.7.96.10.in-addr.arpa.", RecordType::PTR),
        asked("example.com.", RecordType::AAAA),
    ]
}

proptest! {
    #[test]
    fn each_request_has_an_answer_or_none(bytes in afloat_fuzz::damaged(requests()), turn in 0_usize..3) {
        for zone in [None, Some(&zone())] {
            if let Step::Send(answer) = step(zone, &bytes, turn) {
                let id = answer.metadata.id.to_be_bytes();
                prop_assert_eq!(&id[..], &bytes[..2]);
                prop_assert!(answer.to_vec().is_ok(), "it can be sent");
            }
        }
    }
}
