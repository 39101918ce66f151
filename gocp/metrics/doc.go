// Package metrics serves what a run does and what its devices say, for Prometheus: GET /metrics.
//
//	gocp_power_watts, gocp_energy_joules_total, gocp_utilization_ratio, gocp_memory_used_bytes, …
//	                      one series a device, with the labels kind, device, name
//	gocp_phase_units, gocp_phase_units_done
//	                      epochs or crafting steps of each phase
//	gocp_jobs_planned, gocp_jobs_done_total, gocp_epochs_total, gocp_craft_steps_total,
//	gocp_poisons_crafted_total, gocp_jobs_found_total
//	                      an audit's jobs and their work
//	process_…             this process
package metrics
