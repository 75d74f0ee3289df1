-- What a policy's hooks are called with: r (routing), l (logits), t (a token), q (a request that asks to start).
--
-- Objects that live as long as the policy, over the memory of the call that runs. Every index is checked against that
-- memory's own bounds, not against the fields that the policy sees and may overwrite; the pointers stay upvalues here.
-- Methods stand in the object itself and take numbers or one table, so that a loop over rows becomes machine code.
--
-- Runs inside the policy's state and arrives there as dumped bytecode: one function without upvalues.

-- @param ffi
-- @param S `policyvm_shared *`
-- @return table of functions that take a hook and return what C calls
return function(ffi, S)
   local huge, tobit = math.huge, bit.tobit
   local byte, gsub, sub = string.byte, string.gsub, string.sub -- a text's own methods are the policy's to replace
   local tenants = {}                                           -- names by number, as they come up

   -- A whole number from `first` to below n. What is wrong is said at the line of the policy, which called the method
   -- that called this: `level` functions up.
   local function within(i, first, n, where, what, level)
      if type(i) ~= "number" or tobit(i) ~= i or i < first or i >= n then
         error(("%s: %s %s is not a whole number from %d to %d"):format(where, what, tostring(i), first, n - 1), level)
      end
      return tobit(i)
   end

   local function number(x, where)
      if type(x) ~= "number" or x ~= x then error(("%s: %s is not a number"):format(where, tostring(x)), 3) end
      return x
   end

   local function tenant_name(n)
      if n == 0 then return nil end
      local name = tenants[n]
      if not name then
         local text = S.tenant_name(S.engine, n)
         name = text ~= nil and ffi.string(text) or nil
         tenants[n] = name
      end
      return name
   end

   -- An object whose missing fields are errors; `late` gives those that are made when asked for.
   local function object(name, late)
      return setmetatable({}, {
         __metatable = false,
         __index = function(_, key)
            local make = late and late[key]
            if make then return make() end
            error(("%s has no %s"):format(name, tostring(key)), 2)
         end,
      })
   end

   -- Whose rows they are.
   local function add_owners(target, row, view, name)
      local request, position, token, prompt, tenant =
         name .. ":request", name .. ":position", name .. ":token", name .. ":prompt", name .. ":tenant"
      function target:request(i) return view.row[row(i, request)].id end
      function target:position(i) return view.row[row(i, position)].position end
      function target:token(i) return view.row[row(i, token)].token end
      function target:prompt(i) return view.row[row(i, prompt)].prompt ~= 0 end
      function target:tenant(i) return (tenant_name(view.row[row(i, tenant)].tenant)) end
   end

   -- ---- routing -----------------------------------------------------------------------------------------------------

   local r, V = object "r", S.route
   local entropy, lse, margin, mass = S.entropy, S.lse, S.margin, S.mass

   -- ("+ 0": a tail call would take this function out of the count of levels.)
   local function row(i, where) return within(i, 0, V.rows, where, "row", 4) + 0 end
   local function few(k, where) return within(k, 1, V.n_expert + 1, where, "number of experts", 4) + 0 end

   -- Place of a row's expert in [rows, experts].
   local function place(i, e, where)
      return within(i, 0, V.rows, where, "row", 4) * V.n_expert + within(e, 0, V.n_expert, where, "expert", 4)
   end

   function r:get(i, e) return V.scores[place(i, e, "r:get")] end
   function r:set(i, e, x) V.scores[place(i, e, "r:set")] = number(x, "r:set") end
   function r:ban(i, e) V.choose[place(i, e, "r:ban")] = -huge end
   function r:force(i, e) V.choose[place(i, e, "r:force")] = huge end

   function r:bias(i, e, x)
      local at = place(i, e, "r:bias")
      V.choose[at] = V.choose[at] + number(x, "r:bias")
   end

   function r:biases(i, t)
      local first = row(i, "r:biases") * V.n_expert
      if type(t) ~= "table" then error("r:biases: t must be a table, not a " .. type(t), 2) end
      for e = 0, V.n_expert - 1 do
         local x = t[e]
         if x ~= nil then V.choose[first + e] = V.choose[first + e] + number(x, "r:biases") end
      end
   end

   function r:choose(i, e, x)
      local at = place(i, e, "r:choose")
      if x ~= nil then V.choose[at] = number(x, "r:choose") end
      return V.choose[at]
   end

   function r:top(i, k)
      local at = row(i, "r:top")
      if k ~= nil then V.top[at] = few(k, "r:top") end
      return V.top[at]
   end

   function r:cumulative(i, share)
      local at = row(i, "r:cumulative")
      if share ~= nil then
         if type(share) ~= "number" or not (share > 0 and share <= 1) then
            error(("r:cumulative: %s is no share above 0 and up to 1"):format(tostring(share)), 2)
         end
         V.cumulative[at] = share
      end
      return V.cumulative[at]
   end

   function r:entropy(i) return entropy(V, row(i, "r:entropy")) end
   function r:margin(i) return margin(V, row(i, "r:margin")) end
   function r:mass(i, k) return mass(V, row(i, "r:mass"), few(k, "r:mass")) end

   function r:softmax(i, into)
      local first, sum = row(i, "r:softmax") * V.n_expert, lse(V, i)
      into = into or {}
      for e = 0, V.n_expert - 1 do into[e] = math.exp(V.scores[first + e] - sum) end
      return into
   end

   function r:load(e) return V.load[within(e, 0, V.n_expert, "r:load", "expert", 3)] end

   add_owners(r, row, V, "r")
   r.layer, r.rows, r.experts, r.used, r.most = 0, 0, 0, 0, 0

   local points = {}

   function points.route(hook)
      return function()
         r.layer, r.rows, r.experts, r.used, r.most = V.layer, V.rows, V.n_expert, V.n_used, V.max_used
         hook(r)
      end
   end

   -- ---- logits ------------------------------------------------------------------------------------------------------

   local l, W = object "l", S.logits

   local function sampled(i, where) return within(i, 0, W.rows, where, "row", 4) + 0 end
   local function id(k, where) return within(k, 0, W.n_vocab, where, "token", 4) + 0 end

   function l:get(i, k) return W.scores[sampled(i, "l:get")][id(k, "l:get")] end
   function l:set(i, k, x) W.scores[sampled(i, "l:set")][id(k, "l:set")] = number(x, "l:set") end
   function l:ban(i, k) W.scores[sampled(i, "l:ban")][id(k, "l:ban")] = -huge end

   function l:add(i, k, x)
      local scores, at = W.scores[sampled(i, "l:add")], id(k, "l:add")
      scores[at] = scores[at] + number(x, "l:add")
   end

   add_owners(l, sampled, W, "l")
   l.rows, l.vocabulary = 0, 0

   function points.logits(hook)
      return function()
         l.rows, l.vocabulary = W.rows, W.n_vocab
         hook(l)
      end
   end

   -- ---- a token, a request ------------------------------------------------------------------------------------------

   local t = object("t", {
      text = function() return ffi.string(S.token.text, S.token.n_text) end,
      tenant = function() return tenant_name(S.token.row.tenant) end,
   })
   function t:stop() S.token.stop = 1 end

   function points.token(hook)
      return function()
         local row_ = S.token.row
         t.token, t.position, t.request, t.count = row_.token, row_.position, row_.id, S.token.n_new
         hook(t)
      end
   end

   local q = object("q", { tenant = function() return tenant_name(S.admit.tenant) end })
   function q:wait() S.admit.verdict = 0 end

   function q:refuse(why)
      if type(why) ~= "string" then error("q:refuse: why must be a string, not a " .. type(why), 2) end
      why = gsub(sub(why, 1, ffi.sizeof(S.admit.why) - 1), "[\192-\255][\128-\191]*$", function(tail)
         local first = byte(tail)                               -- no half of a character at the end
         return #tail < (first >= 240 and 4 or first >= 224 and 3 or 2) and "" or tail
      end)
      S.admit.verdict = -1
      ffi.copy(S.admit.why, why)
   end

   function points.admit(hook)
      return function()
         local a = S.admit
         q.request, q.prompt, q.max_new, q.priority = a.id, a.n_prompt, a.max_new, a.priority
         q.waiting, q.running, q.pages_free, q.pages = a.waiting, a.running, a.kv_pages_free, a.kv_pages
         hook(q)
      end
   end

   return points
end
