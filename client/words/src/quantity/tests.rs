use super::*;
use proptest::prelude::*;

fn read(text: &str) -> Quantity {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[test]
fn texts_are_amounts() {
    for (text, nano) in [
        ("0", 0),
        ("-0", 0),
        ("000", 0),
        ("1", NANO),
        ("0001", NANO),
        ("+1", NANO),
        ("-1", -NANO),
        ("1.", NANO),
        (".5", NANO / 2),
        ("0.5", NANO / 2),
        ("1n", 1),
        ("1u", 1000),
        ("100m", 100_000_000),
        ("1k", 1000 * NANO),
        ("1M", 1_000_000 * NANO),
        ("1E", 1_000_000_000_000_000_000 * NANO),
        ("1Ki", 1024 * NANO),
        ("1.5Gi", 1_610_612_736 * NANO),
        ("0.5Mi", 524_288 * NANO),
        ("7Ei", (7 << 60) * NANO),
        ("2e3", 2000 * NANO),
        ("2E3", 2000 * NANO),
        ("2e+3", 2000 * NANO),
        ("2e-3", 2_000_000),
        ("1.5e-9", 2),
        ("0e99", 0),
        (
            "123456789012345678901234567890n",
            123_456_789_012_345_678_901_234_567_890,
        ),
        ("0.9e29", 90_000_000_000_000_000_000_000_000_000 * NANO),
    ] {
        assert_eq!(read(text).nano(), nano, "{text}");
    }
}

#[test]
fn what_is_finer_than_a_billionth_rounds_away_from_zero() {
    for (text, nano) in [
        ("0.1n", 1),
        ("-0.1n", -1),
        ("1.1n", 2),
        ("-1.1n", -2),
        ("1e-99", 1),
        ("1e-2147483648", 1),
        ("0.00000000000000000000000000000000000000000000000000000001", 1),
        ("1.00000000000000000000000000000000000000000000000000000000", NANO),
        ("0.0000000001Ki", 103),
        ("0.00000000000000000000000000000000000000000000000000000001Ei", 1),
        (
            "0.50000000000000000000000000000000000000000000000000000000Ei",
            (1 << 59) * NANO,
        ),
    ] {
        assert_eq!(read(text).nano(), nano, "{text}");
    }
}

#[test]
fn what_is_no_quantity_is_refused() {
    for text in [
        "",
        "x",
        "m",
        "Ki",
        ".",
        "+",
        "-",
        "1x",
        "1 Gi",
        " 1",
        "1 ",
        "1gi",
        "1i",
        ".5i",
        "-3.01i",
        "1e",
        "-3.01e-",
        "1e+-3",
        "1e3.5",
        "1.2.3",
        "1.1.M",
        "1+1.0M",
        "0.1mi",
        "0.1am",
        "aoeu",
        "--1",
        "١",
        "1e99999999999",
        "inf",
        "NaN",
        "0x1",
    ] {
        assert_eq!(text.parse::<Quantity>(), Err(BadQuantity::Form), "{text:?}");
        assert_eq!(canonical(text), None, "{text:?}");
    }
    for text in [
        "1e30",
        "1e2147483647",
        "170141183460469231731687303716E",
        &"9".repeat(1000),
    ] {
        assert_eq!(text.parse::<Quantity>(), Err(BadQuantity::TooLarge), "{text}");
    }
}

#[test]
fn binary_amounts_are_cut_to_64_bits() {
    for text in ["8Ei", "1000000000000Ei", &format!("{}Ki", "9".repeat(1000))] {
        assert_eq!(read(text).value(), i64::MAX, "{text}");
        assert_eq!(read(&format!("-{text}")).value(), -i64::MAX, "{text}");
    }
    assert_eq!((read("1000E").value(), read("-1000E").value()), (i64::MAX, i64::MIN));
    assert_eq!(read("10E").milli(), i64::MAX);
}

/// Written from upstream's table of what a text becomes when it is read and written again.
#[test]
fn the_canonical_form_is_as_large_as_it_can_be() {
    for (text, written) in [
        ("0", "0"),
        ("0n", "0"),
        ("0Ki", "0"),
        ("1000m", "1"),
        ("1.5", "1500m"),
        ("1.5Gi", "1536Mi"),
        ("1024Mi", "1Gi"),
        ("1024Ki", "1Mi"),
        ("1023Ki", "1023Ki"),
        ("1000Ki", "1000Ki"),
        ("512Ki", "512Ki"),
        ("0.5Ki", "512"),
        ("1Ki", "1Ki"),
        ("0.3Ki", "307200m"),
        ("1.0001Ki", "1024102400u"),
        ("0.000001Ki", "1024u"),
        ("1e3", "1e3"),
        ("1000e0", "1e3"),
        ("5e-3", "5e-3"),
        ("1.1E-9", "2e-9"),
        ("100000", "100k"),
        ("1000000", "1M"),
        ("1000k", "1M"),
        ("1000E", "1e21"),
        ("-1500m", "-1500m"),
        ("-1024Mi", "-1Gi"),
        ("0.001", "1m"),
        ("0.0001", "100u"),
        ("8Ei", "9223372036854775807"),
        ("1048576Ti", "1Ei"),
        ("1.0E", "1E"),
        ("12345m", "12345m"),
        ("1.2345", "1234500u"),
    ] {
        assert_eq!(read(text).to_string(), written, "{text}");
        assert_eq!(canonical(text).as_deref(), Some(written), "{text}");
    }
}

#[test]
fn go_keeps_what_looks_canonical() {
    for (text, kept, written) in [
        ("1.500", true, "1500m"),
        ("+5", true, "5"),
        ("05", true, "5"),
        ("1e3", true, "1e3"),
        ("1E3", true, "1e3"),
        ("1.50", false, "1500m"),
        ("1.000", false, "1"),
        ("8Gi", false, "8Gi"),
        ("1025Mi", true, "1025Mi"),
        ("+3Gi", true, "3Gi"),
    ] {
        let shown = if kept { text } else { written };
        assert_eq!(canonical(text).as_deref(), Some(shown), "{text}");
        assert_eq!(read(text).to_string(), written, "{text}");
    }
}

#[test]
fn thousandths_are_the_finest_of_a_containers() {
    for (text, wanted) in [
        ("1.0001", "1001m"),
        ("10n", "1m"),
        ("0.5", "500m"),
        ("1Gi", "1Gi"),
        ("1.500", "1.500"),
        ("0.0001Ki", "103m"),
        ("0", "0"),
    ] {
        assert_eq!(rounded(text).as_deref(), Some(wanted), "{text}");
    }
}

#[test]
fn rounding_and_division_go_up() {
    for (text, milli, value) in [
        ("1.0001", 1001, 2),
        ("1500m", 1500, 2),
        ("9m", 9, 1),
        ("1u", 1, 1),
        ("1n", 1, 1),
        ("-1500m", -1500, -2),
        ("1.5Gi", 1_610_612_736_000, 1_610_612_736),
    ] {
        assert_eq!((read(text).milli(), read(text).value()), (milli, value), "{text}");
    }
    for (amount, divisor, times) in [
        ("9m", "1m", Some(9)),
        ("2010m", "1m", Some(2010)),
        ("1500m", "1", Some(2)),
        ("1Gi", "1Mi", Some(1024)),
        ("1Gi", "1M", Some(1074)),
        ("0", "1", Some(0)),
        ("1", "0", None),
        ("100E", "1n", Some(i64::MAX)),
    ] {
        assert_eq!(read(amount).divided_by(read(divisor)), times, "{amount}/{divisor}");
    }
}

#[test]
fn sums_are_written_as_the_first_that_is_not_zero() {
    for (a, b, sum, rest) in [
        ("1Gi", "1", "1073741825", "1073741823"),
        ("1Gi", "1Gi", "2Gi", "0"),
        ("0", "1Gi", "1Gi", "-1Gi"),
        ("1500m", "500m", "2", "1"),
        ("1e3", "1k", "2e3", "0"),
        ("2k", "1e3", "3k", "1k"),
    ] {
        let (a, b) = (read(a), read(b));
        assert_eq!(a.checked_add(b).map(|q| q.to_string()).as_deref(), Some(sum), "{a}+{b}");
        assert_eq!(
            a.checked_sub(b).map(|q| q.to_string()).as_deref(),
            Some(rest),
            "{a}-{b}"
        );
    }
    let most = read("170141183460E");
    assert!(most.checked_add(most).is_none());
}

#[test]
fn json_may_have_numbers() {
    let of = |value: serde_json::Value| Quantity::of_json(&value).ok().map(Quantity::milli);
    assert_eq!(of(serde_json::json!("2")), Some(2000));
    assert_eq!(of(serde_json::json!(3)), Some(3000));
    assert_eq!(of(serde_json::json!(0.5)), Some(500));
    assert_eq!(of(serde_json::json!(null)), None);
    assert_eq!(of(serde_json::json!([1])), None);
}

#[test]
fn one_amount_has_many_texts() {
    for (a, b) in [
        ("500m", "0.5"),
        ("1Gi", "1024Mi"),
        ("1e3", "1k"),
        ("1", "1"),
        ("2E", "2e18"),
        ("x", "x"),
    ] {
        assert!(same(a, b), "{a} {b}");
    }
    for (a, b) in [("500m", "0.6"), ("1Gi", "1G"), ("x", "y")] {
        assert!(!same(a, b), "{a} {b}");
    }
}

fn amounts() -> impl Strategy<Value = Quantity> {
    let form = prop_oneof![Just(Form::Decimal), Just(Form::Exponent), Just(Form::Binary)];
    // Amounts of all sizes, many of them round.
    (-1_000_000_000_i128..1_000_000_000, 0..17_u32, form, any::<bool>()).prop_map(|(number, power, form, binary)| {
        let unit = if binary {
            NANO << (power * 2)
        } else {
            10_i128.pow(power)
        };
        let nano = (number * unit).clamp(-BINARY_MAX, BINARY_MAX);
        Quantity { nano, form }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same(amount in amounts()) {
        let text = amount.to_string();
        let again = read(&text);
        prop_assert_eq!(again, amount);
        // A binary amount whose number has no suffix is a decimal one when it is read again, as in Go.
        if again.form == amount.form {
            prop_assert_eq!(again.to_string(), text, "the canonical form is its own");
            prop_assert_eq!(canonical(&text), Some(text));
        }
    }

    #[test]
    fn order_is_that_of_differences(a in amounts(), b in amounts()) {
        let difference = a.checked_sub(b).unwrap();
        prop_assert_eq!(a.cmp(&b), difference.nano().cmp(&0));
        prop_assert!(a >= b || a.value() <= b.value() && a.milli() <= b.milli(), "rounding keeps the order");
    }

    #[test]
    fn sums_can_be_taken_apart(a in amounts(), b in amounts()) {
        let sum = a.checked_add(b).unwrap();
        prop_assert_eq!(sum, b.checked_add(a).unwrap());
        prop_assert_eq!(sum.checked_sub(b).unwrap(), a);
    }

    #[test]
    fn division_is_the_least_number_that_suffices(a in 0..1_i128 << 90, b in 1..1_i128 << 40) {
        let quantity = |nano| Quantity { nano, form: Form::Decimal };
        let times = i128::from(quantity(a).divided_by(quantity(b)).unwrap());
        prop_assume!(times < i128::from(i64::MAX));
        prop_assert!(times * b >= a && (times - 1) * b < a);
    }

    #[test]
    fn no_text_panics(text in "[+-]?[0-9.]{0,60}[eEinumkKMGTP]{0,2}[-+]?[0-9]{0,12}|.{0,30}") {
        if let Ok(amount) = text.parse::<Quantity>() {
            prop_assert!(canonical(&text).is_some() && same(&text, &amount.to_string()));
            let _ = (amount.milli(), amount.value(), rounded(&text));
        }
    }

    /// Two ways to the same number: digits moved over the point by an exponent.
    #[test]
    fn a_point_is_an_exponent(digits in "[1-9][0-9]{0,14}", fraction in "[0-9]{1,9}") {
        let pointed = format!("{digits}.{fraction}");
        let moved = format!("{digits}{fraction}e-{}", fraction.len());
        prop_assert_eq!(read(&pointed), read(&moved));
    }
}
