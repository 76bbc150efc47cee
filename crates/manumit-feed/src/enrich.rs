//! What reference tables know about a row: customers, their groups, and the amount in the base currency.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, PrimitiveArray, RecordBatch, RecordBatchOptions, StringArray,
};
use arrow::datatypes::{DataType, Decimal128Type, Field, Schema, TimestampMicrosecondType};
use arrow::error::ArrowError;
use manumit_model::money;
use manumit_model::schema::TRANSACTIONS;
use manumit_sql::SharedReference;

/// Fills `debtor_customer`, `creditor_customer`, `debtor_group`, `creditor_group` and `amount_base`.
#[derive(Debug, Clone)]
pub struct Enricher {
    base_currency: String,
    reference: SharedReference,
}

/// Columns that enrichment adds.
pub(crate) const ADDED: [&str; 5] =
    ["amount_base", "debtor_customer", "creditor_customer", "debtor_group", "creditor_group"];

impl Enricher {
    /// `base_currency`: ISO 4217 code that `amount_base` is in.
    pub fn new(base_currency: &str, reference: SharedReference) -> Enricher {
        Enricher { base_currency: base_currency.to_string(), reference }
    }

    /// The columns of a feed after enrichment.
    pub fn columns(given: &[String]) -> Vec<String> {
        let all = TRANSACTIONS.iter().map(|c| c.name);
        all.filter(|n| ADDED.contains(n) || given.iter().any(|g| g == n)).map(String::from).collect()
    }

    /// Adds what is known. A value that the feed gave is never replaced.
    ///
    /// # Errors
    /// [`ArrowError`] when the columns do not fit together.
    pub fn enrich(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let reference = self.reference.get();
        let Some(times) = rows.column_by_name("event_time") else { return Ok(rows.clone()) };
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let mut fields = Vec::new();
        let mut columns: Vec<ArrayRef> = Vec::new();
        // Customers come before the groups that they belong to.
        let mut customers: Vec<(&str, ArrayRef)> = Vec::new();
        for column in TRANSACTIONS {
            let given = rows.column_by_name(column.name);
            let array = match column.name {
                "amount_base" => Some(self.amount_base(rows, times, &reference)?),
                "debtor_customer" | "creditor_customer" => {
                    let account =
                        if column.name == "debtor_customer" { "debtor_account" } else { "creditor_account" };
                    let accounts = rows.column_by_name(account).map(|a| a.as_string::<i32>());
                    let known = given.map(|g| g.as_string::<i32>());
                    let found: Vec<Option<&str>> = (0..rows.num_rows())
                        .map(|row| {
                            if let Some(known) = known.filter(|k| k.is_valid(row)) {
                                return Some(known.value(row));
                            }
                            let account = accounts.filter(|a| a.is_valid(row))?;
                            reference.customer_of(account.value(row), times.value(row))
                        })
                        .collect();
                    let found = match found.iter().any(Option::is_some) {
                        true => Arc::new(StringArray::from(found)) as ArrayRef,
                        false => arrow::array::new_null_array(&DataType::Utf8, found.len()),
                    };
                    customers.push((column.name, found.clone()));
                    Some(found)
                }
                "debtor_group" | "creditor_group" => {
                    let of =
                        if column.name == "debtor_group" { "debtor_customer" } else { "creditor_customer" };
                    let customers = customers.iter().find(|(name, _)| *name == of).map(|(_, found)| found);
                    customers.map(|customers| groups(given, customers, times, &reference))
                }
                _ => given.cloned(),
            };
            if let Some(array) = array {
                fields.push(Field::new(column.name, array.data_type().clone(), true));
                columns.push(array);
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
    }

    /// See [`manumit_sql::Reference::in_base`].
    fn amount_base(
        &self,
        rows: &RecordBatch,
        times: &PrimitiveArray<TimestampMicrosecondType>,
        reference: &manumit_sql::Reference,
    ) -> Result<ArrayRef, ArrowError> {
        let (Some(amounts), Some(currencies)) =
            (rows.column_by_name("amount"), rows.column_by_name("currency"))
        else {
            return Ok(arrow::array::new_null_array(&money::data_type(), rows.num_rows()));
        };
        let (amounts, currencies) = (amounts.as_primitive::<Decimal128Type>(), currencies.as_string::<i32>());
        if (0..rows.num_rows())
            .all(|row| currencies.is_valid(row) && currencies.value(row) == self.base_currency)
        {
            return Ok(Arc::new(amounts.clone()));
        }
        let base: Decimal128Array = (0..rows.num_rows())
            .map(|row| {
                let (amount, currency) = (amounts.value(row), currencies.value(row));
                reference.in_base(amount, currency, &self.base_currency, times.value(row))
            })
            .collect();
        Ok(Arc::new(base.with_precision_and_scale(money::PRECISION, money::SCALE as i8)?))
    }
}

/// Groups of customers at the times of their rows; one that the feed gave stands.
fn groups(
    given: Option<&ArrayRef>,
    customers: &ArrayRef,
    times: &PrimitiveArray<TimestampMicrosecondType>,
    reference: &manumit_sql::Reference,
) -> ArrayRef {
    if reference.knows_no_groups() {
        let none = || arrow::array::new_null_array(customers.data_type(), customers.len());
        return given.cloned().unwrap_or_else(none);
    }
    let (customers, given) = (customers.as_string::<i32>(), given.map(|given| given.as_string::<i32>()));
    let asked = (0..customers.len()).map(|row| {
        let open = given.is_none_or(|given| given.is_null(row));
        (open && customers.is_valid(row)).then(|| (customers.value(row), times.value(row)))
    });
    let found = reference.groups_of(asked);
    let known = |row: usize| given.filter(|given| given.is_valid(row)).map(|given| given.value(row));
    let all = found.into_iter().enumerate().map(|(row, group)| known(row).or(group));
    Arc::new(all.collect::<StringArray>())
}
