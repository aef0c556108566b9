output "app_name" {
  description = "Name of the deployed application."
  value       = juju_application.ams.name
}

output "requires" {
  description = "Endpoints: client or publisher towards a registry, relate one of them; database and object_storage, both or none."
  value       = local.requires
}
