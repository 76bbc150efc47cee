//! Outer joins with a condition beside the keys, by hash.
//!
//! Ballista prefers joins that sort and merge. Those of DataFusion 55.2 say that they keep the order of their rows, which
//! outer ones with a further condition do not (apache/datafusion#24573): what relies on the order then gives one key
//! several groups, or finds only some of its rows. An optional step of a sequence is such a join. A hash join says nothing of
//! order; it holds one side's partition in memory.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{JoinType, Result};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode, SortMergeJoinExec};

/// The rule; it goes first, before anything relies on the order of rows.
#[derive(Debug)]
pub(crate) struct OuterJoinsByHash;

impl PhysicalOptimizerRule for OuterJoinsByHash {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let changed = plan.transform_up(|node| match node.downcast_ref::<SortMergeJoinExec>() {
            Some(join) if loses_order(join) => Ok(Transformed::yes(by_hash(join)?)),
            _ => Ok(Transformed::no(node)),
        });
        Ok(changed?.data)
    }

    fn name(&self) -> &str {
        "outer_joins_by_hash"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn loses_order(join: &SortMergeJoinExec) -> bool {
    join.filter().is_some() && matches!(join.join_type(), JoinType::Left | JoinType::Right | JoinType::Full)
}

fn by_hash(join: &SortMergeJoinExec) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(Arc::new(HashJoinExec::try_new(
        join.left().clone(),
        join.right().clone(),
        join.on().to_vec(),
        join.filter().clone(),
        &join.join_type(),
        None,
        PartitionMode::Partitioned,
        join.null_equality(),
        false,
    )?))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::physical_plan::{collect, displayable};
    use datafusion::prelude::{SessionConfig, SessionContext};
    use manumit_sql::Sql;

    /// The first keys have many rows on the other side, the last ones one: these came out first.
    #[tokio::test]
    async fn each_key_of_an_outer_join_with_a_condition_makes_one_group() {
        let config = SessionConfig::new()
            .with_target_partitions(2)
            .set_bool("datafusion.optimizer.prefer_hash_join", false);
        let context = SessionContext::new_with_state(crate::session_state(&Sql::new(), config).unwrap());
        let query = "
            WITH few AS (SELECT value AS k FROM generate_series(0, 6)),
              many AS (SELECT CASE WHEN value < 10000 THEN value % 5 ELSE value - 9995 END AS k, value AS v FROM generate_series(0, 10001))
            SELECT few.k, count(many.v) AS n FROM few LEFT JOIN many ON many.k = few.k AND many.v > few.k GROUP BY few.k";
        let plan = context.sql(query).await.unwrap().create_physical_plan().await.unwrap();
        let told = displayable(plan.as_ref()).indent(false).to_string();
        assert!(told.contains("HashJoinExec") && !told.contains("SortMergeJoinExec"), "{told}");
        let rows = collect(plan, context.task_ctx()).await.unwrap();
        let rows = pretty_format_batches(&rows).unwrap().to_string();
        let mut lines: Vec<&str> = rows.lines().filter(|line| line.starts_with("| ")).collect();
        lines.sort_unstable();
        let wanted = ["0 | 1999", "1 | 1999", "2 | 1999", "3 | 1999", "4 | 1999", "5 | 1   ", "6 | 1   "];
        let wanted: Vec<String> = wanted.iter().map(|line| format!("| {line} |")).collect();
        assert_eq!(lines[..7], wanted, "{rows}");
    }
}
