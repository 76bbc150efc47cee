//! A short hash of all reference data. Processes that answer parts of one question must agree in it.

use std::hash::{DefaultHasher, Hash, Hasher};

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Date32Type, Decimal128Type, Float64Type};
use datafusion::arrow::util::display::array_value_to_string;

use super::Reference;

impl Reference {
    /// Equal for equal tables, lists and groups, in any process of the same build; sixteen hexadecimal digits. It finds
    /// files that were forgotten or changed; it is no protection against forgery.
    pub fn digest(&self) -> String {
        // Entries are added up: maps have no order.
        let mut sum = 0_u64;
        for (name, rows) in &self.tables {
            for (key, versions) in &rows.index {
                for (validity, row) in versions {
                    sum = sum.wrapping_add(hash(|state| {
                        (name, key, validity).hash(state);
                        for column in &rows.columns {
                            cell(column, *row as usize, state);
                        }
                    }));
                }
            }
        }
        for (name, list) in &self.lists {
            sum = sum.wrapping_add(hash(|state| ("list", name).hash(state)));
            for (value, versions) in list {
                sum = sum.wrapping_add(hash(|state| ("list", name, value, versions).hash(state)));
            }
        }
        for (name, list) in &self.terms {
            sum = sum.wrapping_add(hash(|state| ("terms", name, list).hash(state)));
        }
        sum = sum.wrapping_add(hash(|state| self.mcc_groups.hash(state)));
        sum = sum.wrapping_add(hash(|state| self.group_rule.hash(state)));
        format!("{sum:016x}")
    }
}

fn hash(write: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut state = DefaultHasher::new();
    write(&mut state);
    state.finish()
}

fn cell(column: &ArrayRef, row: usize, state: &mut DefaultHasher) {
    column.is_valid(row).hash(state);
    if column.is_null(row) {
        return;
    }
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).hash(state),
        DataType::Boolean => column.as_boolean().value(row).hash(state),
        DataType::Date32 => column.as_primitive::<Date32Type>().value(row).hash(state),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).to_bits().hash(state),
        DataType::Decimal128(_, _) => column.as_primitive::<Decimal128Type>().value(row).hash(state),
        _ => array_value_to_string(column, row).unwrap_or_default().hash(state),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{RecordBatch, StringArray};

    use super::*;
    use crate::reference::Table;

    fn reference(accounts: &[(&str, &str)], list: &str) -> Reference {
        let mut reference = Reference::default();
        for (account, customer) in accounts {
            let column = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
            let rows =
                RecordBatch::try_from_iter([("account", column(account)), ("customer", column(customer))]);
            reference.add_rows(Table::Accounts, &rows.unwrap()).unwrap();
        }
        reference.add_list_csv("watch", list).unwrap();
        reference
    }

    #[test]
    fn the_digest_is_that_of_the_content_whatever_order_it_came_in() {
        let list = "value,valid_from,valid_to,source\nx,,,me\ny,2026-01-01,,me\n";
        let known = reference(&[("a", "1"), ("b", "2")], list).digest();
        assert_eq!(reference(&[("b", "2"), ("a", "1")], list).digest(), known);
        assert_ne!(reference(&[("a", "1"), ("b", "3")], list).digest(), known);
        assert_ne!(reference(&[("a", "1")], list).digest(), known);
        assert_ne!(reference(&[("a", "1"), ("b", "2")], &list.replace("2026", "2025")).digest(), known);
    }
}
