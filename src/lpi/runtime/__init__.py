"""The processes that stages run in: devices, several processes, start-up and costs."""
