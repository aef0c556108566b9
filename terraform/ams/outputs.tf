output "app_name" {
  description = "Name of the deployed application."
  value       = juju_application.ams.name
}

output "requires" {
  description = "Endpoints towards a registry, by role; relate one of them."
  value       = local.requires
}
