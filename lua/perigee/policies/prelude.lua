-- What runs first in the state of a policy (ext/policyvm.c): it declares the memory shared with C, closes the sandbox,
-- runs the policy's file, and returns the functions that C is to call.
--
-- Arrives there as dumped bytecode: one function without upvalues. So do the pieces it is given; `woven` is the source
-- of the policy from perigee.weave, `chunk` its name for messages, `params` packed parameters from whoever loads it.
return function(ffi, shared, shared_text, view_text, sandbox, views, pack, unpack_text, woven, chunk, params)
   ffi.cdef(view_text)
   ffi.cdef(shared_text)
   sandbox, views, pack, unpack_text = loadstring(sandbox), loadstring(views), loadstring(pack), loadstring(unpack_text)
   local S = ffi.cast("policyvm_shared *", shared)
   local USED_UP = { "turns of loops and calls of functions", "time", "memory" }

   -- Called at a place of the policy where the count went below zero: raises there, unless there is more.
   local _, first
   local function over(s)
      local why = s.more(s)
      if why == 0 then return end
      if not first then _, first = pcall(error, "ran over its limit of " .. USED_UP[why], 3) end
      error(first, 0)
   end
   ffi.metatype("policyvm_shared", { __index = { over = over } })

   local points = views(ffi, S)
   local load_text, set_environment = loadstring, setfenv
   local env = sandbox(S)
   local policy = set_environment(assert(load_text(woven, "@" .. chunk)), env)(S)()
   if type(policy) ~= "table" then
      error(("%s: a policy file returns a table, this one returned a %s"):format(chunk, type(policy)), 0)
   end

   local about = { fields = {}, params = {}, name = policy.name, version = policy.version, live = policy.live }
   for key, value in next, policy do about.fields[tostring(key)] = type(value) end
   if type(policy.params) == "table" then
      for key in next, policy.params do about.params[tostring(key)] = true end
   end
   for key, value in next, unpack_text(params) or {} do
      if type(policy.params) ~= "table" then policy.params = {} end
      policy.params[key] = value
   end

   local calls = { caught = function() error(first or "ran over its limit of instructions", 0) end }
   for point, bind in next, points do
      if type(policy[point]) == "function" then calls[point] = bind(policy[point]) end
   end
   if type(policy.keep) == "table" then
      function calls.pack_keep() return pack(policy.keep) end
      function calls.take_keep(text)
         for key, value in next, unpack_text(text) or {} do policy.keep[key] = value end
      end
   end
   return calls, pack(about)
end
