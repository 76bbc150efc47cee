//! What is worked out together is what each expression gives by itself.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, StringArray};
use datafusion::arrow::buffer::BooleanBuffer;

use super::truth::spread;
use super::*;
use crate::Sql;

/// Expressions of every kind of part; the last ones fail at some rows.
const EXPRESSIONS: &[&str] = &[
    "n",
    "flag",
    "true",
    "word",
    "direction = 'in'",
    "direction = 'in' AND n > 3",
    "n > 3",
    "n > 3 AND flag",
    "n > 3 OR flag",
    "NOT (n > 3 AND flag)",
    "NOT coalesce(contains(lower(word), lower(other)), false)",
    "n > 3 AND NOT coalesce(contains(lower(word), lower(other)), false)",
    "flag AND contains(lower(word), lower(other))",
    "flag OR contains(lower(word), lower(other))",
    "coalesce(contains(lower(word), lower(other)), true) AND n < 6 AND flag IS NOT NULL",
    "coalesce(flag, true)",
    "coalesce(flag, n > 3, false)",
    "flag IS NULL",
    "(flag AND n > 3) IS NULL",
    "word IN ('Ab', 'b', 'abc', 'ca') AND n BETWEEN 2 AND 5",
    "word NOT IN ('Ab', 'b') OR n IS NULL",
    "coalesce(word, other)",
    "lower(coalesce(word, other))",
    "lower(word)",
    "regexp_like(lower(word), '^(a|b)') AND n > 1",
    "n > 1 AND (flag OR regexp_like(lower(word), '^(a|b)'))",
    "CASE WHEN regexp_like(lower(word), '^(a|b)') THEN 'x' WHEN n > 3 THEN 'y' END",
    "CASE WHEN n <> 0 THEN 100 / n END",
    "CASE WHEN n <> 0 THEN 100 / n END > 20 AND flag",
    "n <> 0 AND 100 / n > 20",
    "100 / n > 20 AND n <> 0",
    "CAST(word AS BIGINT) > 3",
];

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("word", DataType::Utf8, true),
        Field::new("other", DataType::Utf8, true),
        Field::new("flag", DataType::Boolean, true),
        Field::new("direction", DataType::Utf8, true),
    ]))
}

/// Rows that look random and are not: one in five values is NULL.
fn batch(rows: usize, seed: u64, direction: &str) -> RecordBatch {
    let at = |column: u64, row: usize, of: u64| {
        let mixed = (seed * 31 + column * 17 + row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 33;
        (!mixed.is_multiple_of(5)).then_some(mixed / 5 % of)
    };
    let words = ["a", "Ab", "b", "abc", "CA", "", "xyz"];
    // Of both sides `word` is another column.
    let of_side = if direction == "in" { 7 } else { 2 };
    let text = |column: u64| -> ArrayRef {
        let text = (0..rows).map(|row| at(column, row, 7).map(|n| words[n as usize]));
        Arc::new(text.collect::<StringArray>())
    };
    let numbers: Int64Array = (0..rows).map(|row| at(1, row, 9).map(|n| n as i64)).collect();
    let flags: BooleanArray = (0..rows).map(|row| at(4, row, 3).map(|n| n > 0)).collect();
    let directions = StringArray::from_iter_values(std::iter::repeat_n(direction, rows));
    let columns: Vec<ArrayRef> =
        vec![Arc::new(numbers), text(of_side), text(3), Arc::new(flags), Arc::new(directions)];
    RecordBatch::try_new(schema(), columns).unwrap()
}

#[test]
fn what_is_worked_out_together_is_what_each_expression_gives_by_itself() {
    let sql = Sql::new();
    let compiled: Vec<Compiled> =
        EXPRESSIONS.iter().map(|text| sql.compile(&schema(), text).unwrap()).collect();
    let varies = |name: &str| name == "word" || name == "direction";
    let conjunctions: Vec<Vec<usize>> =
        vec![vec![], vec![2, 5], vec![11, 7, 16], vec![6, 13, 24, 19], vec![0, 8, 29], vec![31]];
    let constant = |name: &str| name == "direction";
    let together = Together::new(&compiled, &conjunctions, &schema(), varies, constant).unwrap();
    let (mut compared, mut failed) = (0, BTreeSet::new());
    for (seed, rows) in [0, 1, 2, 63, 64, 65, 200, 300, 1000].into_iter().enumerate() {
        let (out, inward) = (batch(rows, seed as u64, "out"), batch(rows, seed as u64, "in"));
        // Few, many and all rows, so that parts are worked out at some and then at others.
        for one_in in [1, 2, 7, 40] {
            let mask =
                |side: usize| BooleanBuffer::collect_bool(rows, |row| (row + side).is_multiple_of(one_in));
            let mut work = together.begin(&out);
            for (side, batch) in [&out, &inward].into_iter().enumerate() {
                if side > 0 {
                    work = work.turn(batch);
                }
                for (e, expression) in compiled.iter().enumerate() {
                    let asked = mask(side);
                    let Some(found) = work.value(e, &asked) else {
                        failed.insert(e);
                        continue;
                    };
                    assert_eq!(found.data_type(), &expression.data_type, "{}", EXPRESSIONS[e]);
                    for row in (0..rows).filter(|&row| asked.value(row)) {
                        let alone = expression.evaluate(&batch.slice(row, 1)).unwrap();
                        assert_eq!(&found.slice(row, 1), &alone, "{} at {row} of {rows}", EXPRESSIONS[e]);
                        compared += 1;
                    }
                }
                for (c, parts) in conjunctions.iter().enumerate() {
                    let asked = mask(side + 1);
                    let Some(found) = work.all_hold(c, &asked) else {
                        assert_eq!(c, 5);
                        continue;
                    };
                    for row in 0..rows {
                        let one = batch.slice(row, 1);
                        let holds = |e: &usize| {
                            let value = compiled[*e].evaluate(&one).unwrap();
                            value.as_boolean_opt().is_none_or(|value| value.is_valid(0) && value.value(0))
                        };
                        let wanted = asked.value(row) && parts.iter().all(holds);
                        assert_eq!(found.value(row), wanted, "{parts:?} at {row} of {rows}");
                    }
                }
            }
        }
    }
    assert!(compared > 50_000);
    // Only what fails at some row, and of that not what is kept from those rows.
    let failing: Vec<&str> = failed.iter().map(|&e| EXPRESSIONS[e]).collect();
    assert_eq!(failing, ["100 / n > 20 AND n <> 0", "CAST(word AS BIGINT) > 3"]);
}

#[test]
fn equal_parts_are_one_and_say_who_has_them() {
    let sql = Sql::new();
    let texts = [
        "n > 3 AND contains(lower(word), 'a')",
        "flag AND contains(lower(word), 'a')",
        "lower(word)",
        "n > 4",
    ];
    let compiled: Vec<Compiled> = texts.iter().map(|text| sql.compile(&schema(), text).unwrap()).collect();
    let together = Together::new(&compiled, &[], &schema(), |_| false, |_| false).unwrap();
    let shared: Vec<(&str, Vec<usize>)> =
        together.parts().into_iter().filter(|(_, users)| users.len() > 1).collect();
    assert_eq!(shared, [("lower(word)", vec![0, 1, 2]), ("contains(lower(word), 'a')", vec![0, 1])]);
}

#[test]
fn bits_go_to_the_places_they_were_taken_from() {
    let places = [0b1010_0110, 0, u64::MAX];
    let packed = [0b0110 | 0b1011 << 4, 0];
    assert_eq!(spread(&packed, &places), [0b0010_0100, 0, 0b1011]);
}
