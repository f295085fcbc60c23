use super::*;

/// robfig/cron v3.0.1's own answers (`ParseStandard`, `Next`): a zone, a schedule, a time, and the times that follow; or a
/// schedule and what is wrong with it.
const ROBFIG: &str = include_str!("robfig.txt");

fn rows(kind: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let lines = ROBFIG.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    lines.filter(move |parts| parts[0] == kind)
}

#[test]
fn the_next_times_are_those_of_kubernetes() {
    let mut seen = 0;
    for row in rows("next") {
        let [_, name, text, from, times @ ..] = &row[..] else {
            panic!("{row:?}");
        };
        let (schedule, zone) = (Schedule::parse(text).unwrap(), zone(name).unwrap());
        let mut at: Option<Timestamp> = Some(from.parse().unwrap());
        for wanted in times {
            at = at.and_then(|at| schedule.next(at, &zone));
            let shown = at.map_or_else(|| "never".to_owned(), |at| at.to_string());
            assert_eq!(shown, *wanted, "{text} in {name} from {from}");
        }
        seen += 1;
    }
    assert!(seen > 300, "{seen}");
}

#[test]
fn what_is_wrong_is_said_in_kubernetes_words() {
    let mut seen = 0;
    for row in rows("wrong") {
        let error = Schedule::parse(row[1]).expect_err(row[1]);
        assert_eq!(error.to_string(), row[2], "{}", row[1]);
        seen += 1;
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn zones_are_those_of_the_program_and_their_case_counts() {
    for name in [
        "",
        "UTC",
        "Etc/UTC",
        "Europe/Berlin",
        "America/Argentina/Buenos_Aires",
        "EST5EDT",
    ] {
        assert!(zone(name).is_some(), "{name}");
    }
    for name in ["europe/berlin", "Local", "Mars/Olympus", "Etc/Unknown", "../etc/passwd"] {
        assert!(zone(name).is_none(), "{name}");
    }
}

#[test]
fn a_day_that_a_zone_leaves_out_is_gone_over() {
    let schedule = Schedule::parse("0 12 31 12 *").unwrap();
    let next = schedule.next("2011-12-29T20:00:00Z".parse().unwrap(), &zone("Pacific/Apia").unwrap());
    assert_eq!(next.unwrap().to_string(), "2011-12-30T22:00:00Z");
}

proptest::proptest! {
    /// Whatever it reads it can go through, forwards.
    #[test]
    fn every_schedule_goes_forward(text in "([*?]|[0-9]{1,2}(-[0-9]{1,2})?)(/[1-9])?( ([*?]|[0-9]{1,2})(/[0-9])?){4}", from in -9_000_000_000_i64..9_000_000_000) {
        if let Ok(schedule) = Schedule::parse(&text) {
            let from = Timestamp::from_second(from).unwrap();
            if let Some(next) = schedule.next(from, &TimeZone::UTC) {
                proptest::prop_assert!(next > from);
                proptest::prop_assert_eq!(next.as_second() % 60, 0);
            }
        }
    }
}
