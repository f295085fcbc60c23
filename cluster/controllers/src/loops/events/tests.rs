use super::*;

fn note(uid: &str, message: &str, at: i64) -> Note {
    Note {
        component: "test",
        about: ObjectReference {
            name: Some(uid.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        },
        tone: Tone::Normal,
        reason: "Happened",
        message: message.to_owned(),
        at: Timestamp::from_second(at).unwrap(),
        times: 1,
    }
}

/// Admits and pretends that the write went well; tells what it was.
fn tell(memory: &mut Memory, note: &Note) -> String {
    let Some(write) = memory.admit(note) else {
        return "nothing".into();
    };
    let (text, name) = match &write {
        Write::Create { message } => (format!("create {message}"), format!("event of {message}")),
        Write::Count { count, message, name } => (format!("{count} times {message}"), name.clone()),
    };
    memory.written(note, &write, Some(name));
    text
}

#[test]
fn what_happens_again_is_counted() {
    let mut memory = Memory::default();
    assert_eq!(tell(&mut memory, &note("a", "x", 0)), "create x");
    assert_eq!(tell(&mut memory, &note("a", "x", 1)), "2 times x");
    assert_eq!(tell(&mut memory, &note("b", "x", 1)), "create x");
    assert_eq!(tell(&mut memory, &note("a", "y", 1)), "create y");
    let mut warning = note("a", "x", 2);
    warning.tone = Tone::Warning;
    assert_eq!(tell(&mut memory, &warning), "create x");
    // An event that has expired begins anew.
    let again = note("a", "x", 3);
    let write = memory.admit(&again).unwrap();
    memory.written(&again, &write, None);
    assert_eq!(tell(&mut memory, &note("a", "x", 4)), "create x");
}

#[test]
fn many_of_a_kind_are_folded_and_then_cut_off() {
    let mut memory = Memory::default();
    let told: Vec<String> = (0..40)
        .map(|i| tell(&mut memory, &note("a", &format!("m{i}"), 0)))
        .collect();
    assert_eq!(told[9], "create m9");
    assert_eq!(told[10], "create (combined from similar events): m10");
    assert_eq!(told[11], "2 times (combined from similar events): m11");
    assert_eq!(told[24], "15 times (combined from similar events): m24");
    assert_eq!(told[25..], vec!["nothing"; 15]);
    assert_eq!(tell(&mut memory, &note("b", "x", 0)), "create x");
    // One more for each five minutes; after ten, nothing is folded.
    assert_eq!(tell(&mut memory, &note("a", "late", 700)), "create late");
    assert_eq!(tell(&mut memory, &note("a", "later", 701)), "create later");
    assert_eq!(tell(&mut memory, &note("a", "too late", 702)), "nothing");
}

#[test]
fn memory_is_bounded() {
    let mut memory = Memory::default();
    for i in 0..REMEMBERED + 100 {
        tell(&mut memory, &note(&format!("o{i}"), "x", 0));
    }
    assert_eq!((memory.told.len(), memory.order.len()), (REMEMBERED, REMEMBERED));
    assert_eq!(tell(&mut memory, &note("o200", "x", 0)), "2 times x");
    assert_eq!(tell(&mut memory, &note("o1", "x", 0)), "create x");
}

#[test]
fn equal_ones_that_wait_are_one_write() {
    let notes = [
        note("a", "x", 0),
        note("a", "y", 1),
        note("a", "x", 2),
        note("b", "x", 3),
    ];
    let merged = merged(notes.into_iter());
    let told: Vec<_> = merged
        .iter()
        .map(|note| (note.message.as_str(), note.times, note.at.as_second()))
        .collect();
    assert_eq!(told, [("x", 2, 2), ("y", 1, 1), ("x", 1, 3)]);
}

#[test]
fn names_differ_and_messages_end() {
    let mut names = Names::default();
    let one = note("a", "x", 5);
    assert_ne!(names.next(&one), names.next(&one));
    let long = shortened("ä".repeat(MESSAGE_MOST));
    assert_eq!(long.len(), MESSAGE_MOST);
}

#[tokio::test]
async fn a_full_queue_holds_nobody_up() {
    let (recorder, pending) = Recorder::new();
    let meta = ObjectMeta::default();
    for _ in 0..QUEUE + 10 {
        recorder.note::<crate::objects::Pod>("test", &meta, Tone::Normal, "Happened", String::new());
    }
    assert_eq!(pending.0.len(), QUEUE);
}
