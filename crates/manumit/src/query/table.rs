//! The archive as a table of DataFusion: files are left out by the manifest alone, row groups and pages by their
//! statistics and bloom filters.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, BooleanArray, Date32Array, TimestampMicrosecondArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::config::TableParquetOptions;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, DFSchema, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::datasource::{TableProvider, TableType};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::object_store::ObjectMeta;
use datafusion::object_store::path::Path as StorePath;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use manumit_archive::{Archive, FileEntry};

/// The column that names a file's folder.
pub const EVENT_DATE: &str = "event_date";

/// Files of an archive as one table: its columns, then [`EVENT_DATE`].
#[derive(Debug)]
pub struct ArchiveTable {
    archive: Archive,
    files: Vec<FileEntry>,
    schema: TableSchema,
}

impl ArchiveTable {
    /// A table of these files of the archive, which have been checked.
    pub fn new(archive: Archive, files: Vec<FileEntry>) -> ArchiveTable {
        let date = Arc::new(Field::new(EVENT_DATE, DataType::Date32, false));
        let schema =
            TableSchema::builder(manumit_archive::schema()).with_table_partition_cols(vec![date]).build();
        ArchiveTable { archive, files, schema }
    }

    /// Files that may hold rows for which the filters hold.
    fn pruned(&self, state: &dyn Session, filters: &[Expr]) -> Vec<&FileEntry> {
        let all = || self.files.iter().collect::<Vec<_>>();
        let Some(filter) = conjunction(filters.iter().cloned()) else { return all() };
        let schema = self.schema.table_schema();
        let kept = DFSchema::try_from(schema.as_ref().clone())
            .and_then(|columns| state.create_physical_expr(filter, &columns))
            .and_then(|filter| {
                PruningPredicateBuilder::new().with_file_schema(schema.clone()).try_build(filter)
            })
            .and_then(|predicate| predicate.prune(&Bounds(&self.files)));
        match kept {
            Ok(kept) => {
                self.files.iter().zip(kept).filter(|(_, kept)| *kept).map(|(entry, _)| entry).collect()
            }
            // A filter that says nothing about dates.
            Err(_) => all(),
        }
    }

    fn partitioned(&self, entry: &FileEntry) -> Result<PartitionedFile> {
        let path = std::path::absolute(self.archive.path(entry))?;
        let location =
            StorePath::from_absolute_path(path).map_err(|e| DataFusionError::External(Box::new(e)))?;
        let meta = ObjectMeta {
            location,
            // A file never changes: its name stands for its content.
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: entry.bytes,
            e_tag: None,
            version: None,
        };
        let date = ScalarValue::Date32(Some(entry.day().number()));
        Ok(PartitionedFile::new_from_meta(meta).with_partition_values(vec![date]))
    }
}

/// What the manifest knows of each file.
struct Bounds<'a>(&'a [FileEntry]);

impl Bounds<'_> {
    fn values(&self, column: &Column, time: fn(&FileEntry) -> i64) -> Option<ArrayRef> {
        let times = self.0.iter().map(|entry| Some(time(entry)));
        match column.name.as_str() {
            "event_time" => Some(Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))),
            EVENT_DATE => {
                Some(Arc::new(self.0.iter().map(|entry| Some(entry.day().number())).collect::<Date32Array>()))
            }
            _ => None,
        }
    }
}

impl PruningStatistics for Bounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |entry| entry.first_event_micros)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |entry| entry.last_event_micros)
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.0.iter().map(|entry| Some(entry.rows)).collect::<UInt64Array>()))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[async_trait]
impl TableProvider for ArchiveTable {
    fn schema(&self) -> SchemaRef {
        self.schema.table_schema().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let files = self.pruned(state, filters);
        let mut statistics = Statistics::new_unknown(self.schema.table_schema());
        statistics.num_rows = Precision::Exact(files.iter().map(|entry| entry.rows as usize).sum());
        let mut global = state.config_options().execution.parquet.clone();
        // Columns beyond the filter's are decoded only where it holds: one account's rows are few among many.
        global.pushdown_filters = true;
        let parquet = TableParquetOptions { global, ..TableParquetOptions::default() };
        let source = ParquetSource::new(self.schema.clone()).with_table_parquet_options(parquet);
        let group = FileGroup::new(
            files.into_iter().map(|entry| self.partitioned(entry)).collect::<Result<Vec<_>>>()?,
        );
        let groups = group.split_files(state.config().target_partitions());
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
